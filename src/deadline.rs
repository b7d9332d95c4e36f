//! Until when a run may go on: what `--until` means, as a point in time. Pure: the time that it is comes in.
//!
//! A time of day is the next one that its zone's clocks show. Where clocks go back, it is there twice, and the next of the two
//! counts. Where they go forward over it, it is not there at all: it then counts as if they had not been changed yet, so that
//! 02:30 in an hour that is left out is what the clocks show as 03:30.

use jiff::civil::Time;
use jiff::fmt::temporal::DateTimeParser;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Timestamp, ToSpan as _, Zoned};

/// Days that are looked at for the next time of day: yesterday's may be ahead where a change of the clocks moves it, tomorrow's is
/// the usual one, and one more is there for dates that a zone has left out altogether. Source: tz database, Pacific/Apia 2011-12-30.
const DAYS: std::ops::RangeInclusive<i64> = -1..=2;

/// Why a text names no time to come.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeadlineError {
    /// Not one of the forms.
    #[error("{0:?} is no time")]
    NoTime(String),
    /// A zone that nobody knows.
    #[error("{0:?} is no time zone")]
    NoZone(String),
    /// No zone is given, and the machine's is not known.
    #[error("the machine's time zone is not known: the variable TZ names none")]
    NoMachineZone,
    /// A date that is over.
    #[error("{0} is over")]
    Past(String),
}

/// When the time comes that `text` names: `06:00`, `06:00Z`, `06:00+02:00`, `06:00 Europe/Berlin` (seconds may be given), or
/// a date and a time as RFC 3339 has them. `here` is the machine's time zone.
///
/// # Errors
/// It names none, or one that is over.
pub fn parse(text: &str, now: Timestamp, here: Option<&TimeZone>) -> Result<Zoned, DeadlineError> {
    let text = text.trim();
    let no_time = || DeadlineError::NoTime(text.to_owned());
    let is_of_day = |c: char| c.is_ascii_digit() || c == ':';
    let (of_day, zone) = text.split_at(text.find(|c| !is_of_day(c)).unwrap_or(text.len()));
    let Some(time) = time_of_day(of_day) else {
        return full(text, now, here);
    };
    let zone = match zone.trim() {
        "" => here.cloned().ok_or(DeadlineError::NoMachineZone)?,
        "Z" | "z" => TimeZone::UTC,
        name => DateTimeParser::new()
            .parse_time_zone(name)
            .map_err(|_| DeadlineError::NoZone(name.to_owned()))?,
    };
    next(time, zone, now).ok_or_else(no_time)
}

/// Hours and minutes, and perhaps seconds.
fn time_of_day(text: &str) -> Option<Time> {
    let mut parts = text.split(':').map(|part| {
        let is_number = matches!(part.len(), 1 | 2);
        part.parse::<i8>().ok().filter(|_| is_number)
    });
    let (hour, minute) = (parts.next()??, parts.next()??);
    let second = parts.next().unwrap_or(Some(0))?;
    let is_whole = parts.next().is_none();
    Time::new(hour, minute, second, 0).ok().filter(|_| is_whole)
}

/// A date with a time and an offset.
fn full(text: &str, now: Timestamp, here: Option<&TimeZone>) -> Result<Zoned, DeadlineError> {
    let at = DateTimeParser::new()
        .parse_timestamp(text)
        .map_err(|_| DeadlineError::NoTime(text.to_owned()))?;
    if at <= now {
        return Err(DeadlineError::Past(text.to_owned()));
    }
    Ok(at.to_zoned(here.cloned().unwrap_or(TimeZone::UTC)))
}

/// The next time after `now` at which it is `time` there.
fn next(time: Time, zone: TimeZone, now: Timestamp) -> Option<Zoned> {
    let today = now.to_zoned(zone.clone()).date();
    let at = DAYS
        .filter_map(|days| today.checked_add(days.days()).ok())
        .flat_map(|date| instants(date.to_datetime(time), &zone))
        .filter(|at| *at > now)
        .min()?;
    Some(at.to_zoned(zone))
}

/// When clocks show a time: once, twice, or, where they skip it, when they would.
fn instants(shown: jiff::civil::DateTime, zone: &TimeZone) -> impl Iterator<Item = Timestamp> {
    let (first, second) = match zone.to_ambiguous_timestamp(shown).offset() {
        AmbiguousOffset::Unambiguous { offset } => (offset, None),
        AmbiguousOffset::Gap { before, .. } => (before, None),
        AmbiguousOffset::Fold { before, after } => (before, Some(after)),
    };
    let at = move |offset: jiff::tz::Offset| offset.to_timestamp(shown).ok();
    at(first).into_iter().chain(second.and_then(at))
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use proptest::prelude::*;

    use super::*;

    fn ts(text: &str) -> Timestamp {
        text.parse().expect("a timestamp")
    }

    fn zone(name: &str) -> TimeZone {
        TimeZone::get(name).expect("a zone")
    }

    /// What `text` means at `now` on a machine in Berlin, in UTC.
    #[track_caller]
    fn means(text: &str, now: &str, expected: &str) {
        let at = parse(text, ts(now), Some(&zone("Europe/Berlin")));
        assert_eq!(
            at.map(|at| at.timestamp()),
            Ok(ts(expected)),
            "{text} at {now}"
        );
    }

    #[test]
    fn a_time_of_day_is_the_next_one_of_its_zone() {
        let night = "2026-01-10T23:00:00Z";
        means("06:00", night, "2026-01-11T05:00:00Z");
        means("6:00", night, "2026-01-11T05:00:00Z");
        means("06:00:30", night, "2026-01-11T05:00:30Z");
        means(" 06:00Z ", night, "2026-01-11T06:00:00Z");
        means("06:00z", night, "2026-01-11T06:00:00Z");
        means("06:00+02:00", night, "2026-01-11T04:00:00Z");
        means("06:00 -0530", night, "2026-01-11T11:30:00Z");
        means("06:00 America/New_York", night, "2026-01-11T11:00:00Z");
        means("06:00 asia/tokyo", night, "2026-01-11T21:00:00Z");
        means("06:00 UTC", night, "2026-01-11T06:00:00Z");
        means("2026-01-11T06:00:00+01:00", night, "2026-01-11T05:00:00Z");
        means("2026-01-10 23:00:01Z", night, "2026-01-10T23:00:01Z");
        // Midnight, from both sides: at the time itself it is the next day's.
        means("00:00", "2026-01-10T22:59:59Z", "2026-01-10T23:00:00Z");
        means("00:00", "2026-01-10T23:00:00Z", "2026-01-11T23:00:00Z");
        means("23:59:59", "2026-01-10T23:00:00Z", "2026-01-11T22:59:59Z");
    }

    #[test]
    fn clocks_that_change_are_followed() {
        // On 2026-03-29 in Berlin 02:00 is followed by 03:00; on 2026-10-25 03:00 by 02:00.
        means("02:30", "2026-03-28T23:00:00Z", "2026-03-29T01:30:00Z");
        means("02:30", "2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z");
        means("06:00", "2026-03-28T23:00:00Z", "2026-03-29T04:00:00Z");
        means("02:30", "2026-10-24T23:00:00Z", "2026-10-25T00:30:00Z");
        means("02:30", "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z");
        means("02:30", "2026-10-25T01:30:00Z", "2026-10-26T01:30:00Z");
        means("06:00", "2026-10-24T23:00:00Z", "2026-10-25T05:00:00Z");
        // A day that there was not: 2011-12-30 on Samoa, where clocks went from 23:59 on the 29th to 00:00 on the 31st.
        let apia = "06:00 Pacific/Apia";
        means(apia, "2011-12-29T20:00:00Z", "2011-12-30T16:00:00Z");
    }

    #[test]
    fn what_is_no_time_or_over_is_said() {
        let now = ts("2026-01-10T23:00:00Z");
        let here = zone("Europe/Berlin");
        for text in [
            "",
            "6",
            "600",
            "24:00",
            "06:60",
            "06:00:60",
            "006:00",
            "06:0:0:0",
            ":",
            "six",
            "-06:00",
            "+06:00",
            "2026-02-01",
            "2026-02-01T06:00:00",
            "2026-02-30T06:00:00Z",
        ] {
            let error = parse(text, now, Some(&here)).expect_err(text);
            assert!(matches!(error, DeadlineError::NoTime(_)), "{text}: {error}");
        }
        for text in ["06:00 Mars/Base", "06:00+27:00", "06:00 am", "06:00.5"] {
            let error = parse(text, now, Some(&here)).expect_err(text);
            assert!(matches!(error, DeadlineError::NoZone(_)), "{text}: {error}");
        }
        for text in ["2026-01-10T23:00:00Z", "2025-12-31T06:00:00+01:00"] {
            let error = parse(text, now, Some(&here)).expect_err(text);
            assert_eq!(error, DeadlineError::Past(text.to_owned()));
        }
        assert_eq!(parse("06:00", now, None), Err(DeadlineError::NoMachineZone));
        assert!(parse("06:00Z", now, None).is_ok());
        assert!(parse("2026-02-01T06:00:00Z", now, None).is_ok());
    }

    const ZONES: [&str; 8] = [
        "Europe/Berlin",
        "America/New_York",
        "America/St_Johns",
        "Australia/Lord_Howe",
        "Africa/Casablanca",
        "Pacific/Chatham",
        "Asia/Kathmandu",
        "Pacific/Apia",
    ];

    /// A zone, a time near a change of its clocks, and what they show near that change.
    fn around_a_change() -> impl Strategy<Value = (TimeZone, Timestamp, Time)> {
        let seconds =
            ts("2010-01-01T00:00:00Z").as_second()..ts("2030-01-01T00:00:00Z").as_second();
        let zone_of = prop::sample::select(&ZONES[..]);
        let now = prop_oneof![-90_000_i64..90_000, -9_000_i64..9_000];
        let near = (now, -9_000_i64..9_000);
        (zone_of, seconds, near).prop_map(|(name, at, (now, shown))| {
            let (zone, at) = (zone(name), Timestamp::from_second(at).expect("in range"));
            let change = zone.following(at).next();
            let change = change.map_or(at, |change| change.timestamp());
            let shown = change + SignedDuration::from_secs(shown);
            let shown = shown.to_zoned(zone.clone()).time();
            (zone, change + SignedDuration::from_secs(now), shown)
        })
    }

    proptest! {
        /// Held against the clock, minute by minute.
        #[test]
        fn it_is_the_first_minute_at_which_the_clock_shows_the_time(
            (zone, now, wanted) in around_a_change(),
        ) {
            let (hour, minute) = (wanted.hour(), wanted.minute());
            let text = format!("{hour:02}:{minute:02}");
            let at = parse(&text, now, Some(&zone)).expect("a time").timestamp();
            prop_assert!(at > now);
            let shows = |at: Timestamp| {
                let shown = at.to_zoned(zone.clone());
                (shown.hour(), shown.minute()) == (hour, minute)
            };
            let mut minute_on = Timestamp::from_second(now.as_second().div_euclid(60) * 60 + 60)
                .expect("in range");
            while minute_on < at {
                prop_assert!(!shows(minute_on), "{minute_on} is before {at}");
                minute_on += SignedDuration::from_mins(1);
            }
            if !shows(at) {
                // Skipped: no clock shows it on that day.
                let shown = at.to_zoned(zone.clone());
                let wanted = shown.date().at(hour, minute, 0, 0);
                let yesterday = wanted.checked_sub(1.day()).expect("in range");
                let skipped = |at| matches!(
                    zone.to_ambiguous_timestamp(at).offset(),
                    AmbiguousOffset::Gap { .. }
                );
                prop_assert!(skipped(wanted) || skipped(yesterday), "{shown} for {text}");
            }
        }
    }
}
