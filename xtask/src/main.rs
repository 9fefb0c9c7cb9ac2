// SPDX-License-Identifier: Apache-2.0
//! The project's chores.
fn main() {}
