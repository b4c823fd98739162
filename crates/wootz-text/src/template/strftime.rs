//! Dates for `strftime_now`.
//!
//! Where:  templates that write today's date into the system prompt.
//! Idea:   the clock is an argument ([`Now`]), so the same input renders the same text.
//! Source: Python's `datetime.strftime` in the C locale; Hinnant's `civil_from_days` for the calendar.

use std::time::{SystemTime, UNIX_EPOCH};

/// A moment and the offset of the clock on the wall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Seconds since 1970 in UTC.
    pub unix_seconds: i64,
    /// How many seconds the local clock is ahead of UTC.
    pub utc_offset_seconds: i32,
}

impl Now {
    /// The system's clock, in UTC.
    pub fn utc() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Self { unix_seconds: since as i64, utc_offset_seconds: 0 }
    }

    /// The moment in the given format; what is not known is copied.
    pub(super) fn format(self, format: &str) -> String {
        const DAYS: [&str; 7] =
            ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
        const MONTHS: [&str; 12] = [
            "January",
            "February",
            "March",
            "April",
            "May",
            "June",
            "July",
            "August",
            "September",
            "October",
            "November",
            "December",
        ];
        let local = self.unix_seconds.saturating_add(i64::from(self.utc_offset_seconds));
        let (days, second) = (local.div_euclid(86_400), local.rem_euclid(86_400));
        let (year, month, day) = civil(days);
        let weekday = DAYS[(days + 4).rem_euclid(7) as usize];
        let month_name = MONTHS[month as usize - 1];
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        let hour12 = (hour + 11) % 12 + 1;
        let mut out = String::new();
        let mut chars = format.chars();
        while let Some(c) = chars.next() {
            if c != '%' {
                out.push(c);
                continue;
            }
            let mut directive = chars.next();
            let is_bare = directive == Some('-');
            if is_bare {
                directive = chars.next();
            }
            let padded = |number: i64, width: usize| {
                if is_bare { number.to_string() } else { format!("{number:0width$}") }
            };
            match directive {
                Some('Y') => out.push_str(&year.to_string()),
                Some('y') => out.push_str(&padded(year.rem_euclid(100), 2)),
                Some('m') => out.push_str(&padded(month, 2)),
                Some('d') => out.push_str(&padded(day, 2)),
                Some('e') => out.push_str(&format!("{day:2}")),
                Some('H') => out.push_str(&padded(hour, 2)),
                Some('I') => out.push_str(&padded(hour12, 2)),
                Some('M') => out.push_str(&padded(minute, 2)),
                Some('S') => out.push_str(&padded(second, 2)),
                Some('j') => out.push_str(&padded(days - days_before(year) + 1, 3)),
                Some('p') => out.push_str(if hour < 12 { "AM" } else { "PM" }),
                Some('A') => out.push_str(weekday),
                Some('a') => out.push_str(&weekday[..3]),
                Some('B') => out.push_str(month_name),
                Some('b' | 'h') => out.push_str(&month_name[..3]),
                Some('F') => out.push_str(&format!("{year}-{month:02}-{day:02}")),
                Some('T') => out.push_str(&format!("{hour:02}:{minute:02}:{second:02}")),
                Some('%') => out.push('%'),
                Some(other) => out.extend(['%', other]),
                None => out.push('%'),
            }
        }
        out
    }
}

/// Year, month and day of a day counted from 1970-01-01.
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// The number of a year's first day.
fn days_before(year: i64) -> i64 {
    let y = year - 1;
    365 * y + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) - 719_162
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_formatted_as_in_python() {
        let check = |unix_seconds: i64, format: &str, expected: &str| {
            assert_eq!(Now { unix_seconds, utc_offset_seconds: 0 }.format(format), expected);
        };
        check(0, "%Y-%m-%d %H:%M:%S %a %j", "1970-01-01 00:00:00 Thu 001");
        check(1_709_210_096, "%d %b %Y, %A %I:%M %p %-d %j", "29 Feb 2024, Thursday 12:34 PM 29 060");
        check(1_735_689_599, "%B %y %F %T 100%% %q", "December 24 2024-12-31 23:59:59 100% %q");
    }
}
