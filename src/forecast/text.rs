//! A forecast as lines for a person.

use std::fmt;
use std::time::Duration;

use super::time::Pace;
use super::told::{Costs, Money, Number, Share, Told};
use crate::human;

/// Shares of one kind that the lines show.
const SHARES_SHOWN_MAX: usize = 10;
/// Limits that they show.
const PACES_SHOWN_MAX: usize = 3;
/// Characters of a name from outside that they show.
const NAME_CHARS_MAX: usize = 120;

/// A count for a person: `1,234`, or `1,234 (1,100 to 1,400)`.
pub(super) fn number(number: Number, show: impl Fn(u64) -> String) -> String {
    let value = show(number.value);
    if number.is_estimate() {
        format!("{value} ({} to {})", show(number.low), show(number.high))
    } else {
        value
    }
}

/// An amount of money for a person: `4.90`, or `4.90 (4.10 to 5.70)`.
pub(super) fn money(money: Money) -> String {
    let show = |amount: f64| match amount {
        0.0 => "0".to_owned(),
        amount if amount < 1.0 => format!("{amount:.4}"),
        amount => format!("{amount:.2}"),
    };
    let value = show(money.value);
    if money.low == money.high {
        value
    } else {
        format!("{value} ({} to {})", show(money.low), show(money.high))
    }
}

/// How long something takes, for a person.
pub(super) fn time(seconds: f64) -> String {
    // A rate may be so low that no clock shows the end.
    Duration::try_from_secs_f64(seconds).map_or_else(|_| "for ever".to_owned(), human::duration)
}

/// `12 objects, 3.0 MiB`
pub(super) fn share(share: &Share) -> String {
    let objects = number(share.objects, human::count);
    match share.bytes.value {
        0 => objects,
        _ => format!("{objects}, {}", number(share.bytes, human::bytes)),
    }
}

impl Told {
    /// What the numbers are based on.
    pub(super) fn basis(&self) -> String {
        let looked_at = human::count(self.looked_at);
        match (self.not_looked_at, self.told_by_the_manifest) {
            (0, 0) => "every object was looked at".to_owned(),
            (0, told) => format!(
                "{looked_at} objects were looked at, of {} the manifest tells enough",
                human::count(told)
            ),
            (not, told) => format!(
                "estimates: a sample of {looked_at} was looked at, which stands for {} more{}; in brackets the bounds at 95 %",
                human::count(not),
                if told == 0 {
                    String::new()
                } else {
                    format!(", and of {} the manifest tells enough", human::count(told))
                }
            ),
        }
    }

    /// What it would take, by the limit that takes longest.
    pub(super) fn bottleneck(&self) -> Option<&Pace> {
        self.time.first()
    }
}

fn of_costs(costs: &Costs) -> Vec<(&'static str, Money)> {
    let all = [
        ("requests", costs.requests),
        ("KMS", costs.kms),
        ("DSSE-KMS", costs.dsse),
        ("retrieval", costs.retrieval),
        ("minimum durations", costs.early_deletion),
    ];
    all.into_iter()
        .filter(|(_, money)| money.value > 0.0)
        .collect()
}

/// For a person: `--output text`.
impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line =
            |f: &mut fmt::Formatter<'_>, name: &str, value: &str| writeln!(f, "{name:<14}{value}");
        let clean = |text: &str| human::sanitize(text, NAME_CHARS_MAX);
        line(f, "manifest", &clean(&self.about.manifest))?;
        line(f, "bucket", &clean(&self.about.bucket))?;
        let key = self.about.kms_key.as_deref();
        let key = key.map_or_else(String::new, |key| format!(", {}", clean(key)));
        line(f, "target", &format!("{}{key}", self.about.target))?;
        line(
            f,
            "rows",
            &format!("{}: {}", human::count(self.rows), self.basis()),
        )?;
        if !self.about.left_out.is_empty() {
            let left_out = self.about.left_out.iter();
            let left_out: Vec<_> = left_out
                .map(|(filter, rows)| format!("{filter} {}", human::count(*rows)))
                .collect();
            line(f, "left out", &left_out.join(", "))?;
        }
        for course in &self.courses {
            line(f, &format!("  {}", course.name), &share(course))?;
            let why = match course.name.as_str() {
                "rewrite" => &self.methods,
                "skip" => &self.skips,
                "refuse" => &self.refusals,
                _ => &self.failures,
            };
            for part in why.iter().take(SHARES_SHOWN_MAX) {
                let examples = match part.examples.is_empty() {
                    true => String::new(),
                    false => format!(": {}", part.examples.join("  ")),
                };
                writeln!(f, "    {} {}{examples}", clean(&part.name), share(part))?;
            }
        }
        for (name, shares) in [
            ("under now", &self.encryption),
            ("  KMS keys", &self.kms_keys),
            ("classes", &self.storage_classes),
            ("sizes", &self.sizes),
            ("retrieved", &self.retrieved),
            ("too early", &self.early_deletions),
            ("old versions", &self.old_versions),
        ] {
            for (index, part) in shares.iter().take(SHARES_SHOWN_MAX).enumerate() {
                let name = if index == 0 { name } else { "" };
                line(f, name, &format!("{} {}", clean(&part.name), share(part)))?;
            }
        }
        for (index, requests) in self.requests.iter().enumerate() {
            let name = if index == 0 { "requests" } else { "" };
            let count = number(requests.requests, human::count);
            line(f, name, &format!("{} {count}", requests.operation))?;
        }
        let kms = &self.kms_requests;
        if kms.without_bucket_key.value > 0 || kms.as_asked.value > 0 {
            line(
                f,
                "KMS requests",
                &format!(
                    "{} (with bucket keys {}, without {})",
                    number(kms.as_asked, human::count),
                    number(kms.with_bucket_key, human::count),
                    number(kms.without_bucket_key, human::count)
                ),
            )?;
        }
        if let Some(costs) = &self.cost {
            let parts = of_costs(costs).into_iter();
            let parts: Vec<_> = parts
                .map(|(name, amount)| format!("{name} {}", money(amount)))
                .collect();
            let parts = match parts.is_empty() {
                true => String::new(),
                false => format!(": {}", parts.join(", ")),
            };
            let (currency, total) = (clean(&costs.currency), money(costs.total));
            let of = clean(&costs.prices_of);
            line(
                f,
                "cost",
                &format!("{currency} {total}{parts} (prices of {of})"),
            )?;
            if costs.old_versions_per_month.value > 0.0 {
                let monthly = money(costs.old_versions_per_month);
                line(
                    f,
                    "",
                    &format!("and {monthly} a month for as long as old versions stay"),
                )?;
            }
        }
        for (index, pace) in self.time.iter().take(PACES_SHOWN_MAX).enumerate() {
            let name = if index == 0 { "time" } else { "" };
            line(
                f,
                name,
                &format!("{} by {}", time(pace.seconds), pace.limit),
            )?;
        }
        for finding in &self.findings {
            let message = human::sanitize(&finding.message, usize::MAX);
            writeln!(f, "{}: {message}", finding.level)?;
        }
        Ok(())
    }
}
