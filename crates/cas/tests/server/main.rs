// SPDX-License-Identifier: Apache-2.0
//! The real server over real sockets.

mod attested;
mod frames;
mod freshness;
mod machine;
mod openssl;
mod rest;
mod restart;
mod secrets;
mod support;
