// SPDX-License-Identifier: Apache-2.0
//! Time as an input: verification never looks at a clock.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UnixTime(pub u64);

/// Days from 1970-01-01 to the first day of `year`, which is 1970 or later.
const fn days_before(year: u64) -> u64 {
    let past = year.saturating_sub(1);
    let leap_days = past / 4 - past / 100 + past / 400;
    // 477 leap days lie before 1970.
    365 * year.saturating_sub(1970) + leap_days.saturating_sub(477)
}

const fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

const fn days_in(year: u64, month: u64) -> u64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

impl UnixTime {
    /// The system's time. For programs; verification takes time as a value.
    pub fn from_system() -> Self {
        Self(
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |elapsed| elapsed.as_secs()),
        )
    }

    /// Parses `YYYY-MM-DDThh:mm:ssZ` (the one form of RFC 3339 that Intel's
    /// collateral uses), years 1970 to 9999.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes: &[u8; 20] = text.as_bytes().try_into().ok()?;
        let separators = [
            (4, b'-'),
            (7, b'-'),
            (10, b'T'),
            (13, b':'),
            (16, b':'),
            (19, b'Z'),
        ];
        if separators
            .iter()
            .any(|(at, byte)| bytes.get(*at) != Some(byte))
        {
            return None;
        }
        let number = |from: usize, to: usize| -> Option<u64> {
            let digits = bytes.get(from..to)?;
            if !digits.iter().all(u8::is_ascii_digit) {
                return None;
            }
            Some(
                digits
                    .iter()
                    .fold(0, |n, digit| n * 10 + u64::from(digit - b'0')),
            )
        };
        let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
        let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
        let valid = year >= 1970
            && (1..=12).contains(&month)
            && (1..=days_in(year, month)).contains(&day)
            && hour < 24
            && minute < 60
            && second < 60;
        if !valid {
            return None;
        }
        let days = days_before(year) + (1..month).map(|m| days_in(year, m)).sum::<u64>() + day - 1;
        Some(Self(days * 86_400 + hour * 3600 + minute * 60 + second))
    }

    /// This time and `seconds` more.
    #[must_use]
    pub const fn plus(self, seconds: u64) -> Self {
        Self(self.0.saturating_add(seconds))
    }
}

impl fmt::Display for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut days, rest) = (self.0 / 86_400, self.0 % 86_400);
        if days >= days_before(10_000) {
            return write!(f, "{} s after 1970", self.0);
        }
        let mut year = 1970 + days / 366;
        while days_before(year + 1) <= days {
            year += 1;
        }
        days -= days_before(year);
        let mut month = 1;
        while days >= days_in(year, month) {
            days -= days_in(year, month);
            month += 1;
        }
        write!(
            f,
            "{year:04}-{month:02}-{:02}T{:02}:{:02}:{:02}Z",
            days + 1,
            rest / 3600,
            rest / 60 % 60,
            rest % 60
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_instants_are_read() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:34:56Z", 951_827_696),
            ("2025-06-19T10:56:11Z", 1_750_330_571),
            ("2100-03-01T00:00:00Z", 4_107_542_400),
            ("9999-12-31T23:59:59Z", 253_402_300_799),
        ] {
            assert_eq!(UnixTime::parse(text), Some(UnixTime(seconds)), "{text}");
            assert_eq!(UnixTime(seconds).to_string(), text);
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "2025-06-19",
            "2025-06-19T10:56:11",
            "2025-06-19T10:56:11+00:00",
            "2025-06-19t10:56:11z",
            "2025-02-29T00:00:00Z",
            "2100-02-29T00:00:00Z",
            "2025-13-01T00:00:00Z",
            "2025-00-01T00:00:00Z",
            "2025-01-00T00:00:00Z",
            "2025-01-01T24:00:00Z",
            "2025-01-01T00:00:60Z",
            "1969-12-31T23:59:59Z",
            "+025-01-01T00:00:00Z",
            "2025-01-01T00:00:00Z ",
        ] {
            assert_eq!(UnixTime::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_second_survives_its_text(seconds in 0u64..253_402_300_800) {
            let time = UnixTime(seconds);
            prop_assert_eq!(UnixTime::parse(&time.to_string()), Some(time));
        }

        #[test]
        fn any_text_and_number_is_handled(text in ".{0,24}", seconds: u64) {
            let _ = UnixTime::parse(&text);
            let _ = UnixTime(seconds).to_string();
        }
    }
}
