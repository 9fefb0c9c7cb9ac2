// SPDX-License-Identifier: Apache-2.0
//! The real server over real sockets.

mod openssl;
mod rest;
mod restart;
mod secrets;
mod support;
