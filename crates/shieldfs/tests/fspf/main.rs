// SPDX-License-Identifier: Apache-2.0
//! The format from outside: what is sealed is read back, and nothing else is.

#[cfg(test)]
mod round_trip;
#[cfg(test)]
mod sample;
#[cfg(test)]
mod scale;
#[cfg(test)]
mod tamper;
