//! A date and a time of day, as personalities write them into their texts.
//!
//! Pure: the clock and the time zone come from outside.

/// A date and a time of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Year of the Gregorian calendar.
    pub year: i64,
    /// Month, 1 to 12.
    pub month: u8,
    /// Day of the month, 1 to 31.
    pub day: u8,
    /// Hour, 0 to 23.
    pub hour: u8,
    /// Minute, 0 to 59.
    pub minute: u8,
    /// Second, 0 to 59.
    pub second: u8,
}

const DAY_SECONDS: i64 = 86_400;
const WEEKDAYS: [&str; 7] =
    ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];
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

impl Moment {
    /// The moment so many seconds after 1970-01-01 00:00:00; for local time add the zone's offset.
    pub fn from_unix_seconds(seconds: i64) -> Self {
        let (days, rest) = (seconds.div_euclid(DAY_SECONDS), seconds.rem_euclid(DAY_SECONDS));
        // Years begin in March here, so that the leap day comes last; an era is 400 such years.
        let from_march_zero = days + 719_468;
        let era = from_march_zero.div_euclid(146_097);
        let day_of_era = from_march_zero.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        // Parts of a date or time are below 100.
        let small = |value: i64| u8::try_from(value).unwrap_or(u8::MAX);
        Self {
            year,
            month: small(month),
            day: small(day_of_year - (153 * month_from_march + 2) / 5 + 1),
            hour: small(rest / 3_600),
            minute: small(rest / 60 % 60),
            second: small(rest % 60),
        }
    }

    /// Replaces `{{date}}`, `{{time}}` and `{{date_time}}`; other placeholders stay as they are.
    pub fn fill(&self, text: &str) -> String {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find("{{") {
            filled.push_str(&rest[..at]);
            rest = &rest[at..];
            let known = ["date", "time", "date_time"].into_iter().find(|word| {
                rest[2..].strip_prefix(word).is_some_and(|after| after.starts_with("}}"))
            });
            if let Some(word) = known {
                filled.push_str(&self.value(word));
                rest = &rest[word.len() + 4..];
            } else {
                // One brace only, for `{{{date}}}` has its placeholder one character later.
                filled.push('{');
                rest = &rest[1..];
            }
        }
        filled.push_str(rest);
        filled
    }

    fn value(&self, word: &str) -> String {
        let time = format!("{:02}:{:02}:{:02}", self.hour, self.minute, self.second);
        match word {
            "time" => time,
            "date_time" => {
                let half = if self.hour < 12 { "AM" } else { "PM" };
                let hour = (self.hour + 11) % 12 + 1;
                format!("{} {hour:02}:{:02}:{:02} {half}", self.date(), self.minute, self.second)
            }
            _ => self.date(),
        }
    }

    /// `Friday, August 18, 2023`.
    fn date(&self) -> String {
        let month = MONTHS[usize::from(self.month.clamp(1, 12)) - 1];
        format!("{}, {month} {:02}, {}", self.weekday(), self.day, self.year)
    }

    fn weekday(&self) -> &'static str {
        // The inverse of `from_unix_seconds`, counted in days.
        let month = i64::from(self.month);
        let year = self.year - i64::from(month <= 2);
        let era = year.div_euclid(400);
        let year_of_era = year.rem_euclid(400);
        let month_from_march = (month + 9) % 12;
        let day_of_year = (153 * month_from_march + 2) / 5 + i64::from(self.day) - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        let days = era * 146_097 + day_of_era - 719_468;
        let at = usize::try_from(days.rem_euclid(7)).expect("a remainder of 7 is 0 to 6");
        WEEKDAYS[at]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRIDAY: Moment = Moment { year: 2023, month: 8, day: 18, hour: 14, minute: 5, second: 9 };

    #[test]
    fn placeholders_are_written_as_lollms_does() {
        assert_eq!(FRIDAY.fill("Today is {{date}}."), "Today is Friday, August 18, 2023.");
        assert_eq!(FRIDAY.fill("{{time}}"), "14:05:09");
        assert_eq!(FRIDAY.fill("{{date_time}}"), "Friday, August 18, 2023 02:05:09 PM");
        let midnight = Moment { hour: 0, ..FRIDAY };
        assert!(midnight.fill("{{date_time}}").ends_with("12:05:09 AM"));
    }

    #[test]
    fn other_braces_are_text() {
        for text in ["{date}", "{{Date}}", "{{ date }}", "{{name}}", "{{", "}}{{date", "é{{é"] {
            assert_eq!(FRIDAY.fill(text), text);
        }
        assert_eq!(FRIDAY.fill("{{{time}}}"), "{14:05:09}");
    }

    #[test]
    fn unix_seconds_are_the_dates_they_stand_for() {
        let moment = Moment::from_unix_seconds(1_692_367_509);
        assert_eq!(moment, FRIDAY);
        let leap = Moment::from_unix_seconds(951_782_400);
        assert_eq!((leap.year, leap.month, leap.day), (2000, 2, 29));
        assert_eq!(leap.fill("{{date}}"), "Tuesday, February 29, 2000");
        let before = Moment::from_unix_seconds(-1);
        assert_eq!((before.year, before.month, before.day, before.second), (1969, 12, 31, 59));
        assert_eq!(before.fill("{{date}}"), "Wednesday, December 31, 1969");
    }
}
