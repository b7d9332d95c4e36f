//! A forecast as a page of its own, for whoever signs the job off: no script, nothing that it loads.

use std::fmt::Write as _;

use super::text::{money, number, share, time};
use super::told::{Costs, Number, Share, Told};
use crate::human;

/// How it looks, on a screen and on paper.
const STYLE: &str = include_str!("page.css");

/// Text as it stands in HTML.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in human::sanitize(text, usize::MAX).chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// The page.
pub fn page(told: &Told) -> String {
    let mut html = String::new();
    let about = &told.about;
    let title = format!("{} to {}", escape(&about.bucket), escape(&about.target));
    put(
        &mut html,
        format_args!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>Plan: {title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>Plan: {title}</h1>\n"
        ),
    );
    put(
        &mut html,
        format_args!("<p class=\"lead\">{}</p>\n", lead(told)),
    );
    put(
        &mut html,
        format_args!(
            "<p>{}. Nothing was changed.</p>\n",
            escape(&capitalised(&told.basis()))
        ),
    );
    about_table(&mut html, told);
    findings(&mut html, told);
    chart(&mut html, "What becomes of the rows", &told.courses);
    chart(&mut html, "How objects are rewritten", &told.methods);
    chart(&mut html, "Skipped, because", &told.skips);
    chart(&mut html, "Refused, because", &told.refusals);
    chart(&mut html, "Would fail with", &told.failures);
    chart(&mut html, "Under now", &told.encryption);
    chart(&mut html, "KMS keys now", &told.kms_keys);
    chart(&mut html, "Storage classes", &told.storage_classes);
    chart(&mut html, "Sizes", &told.sizes);
    chart(
        &mut html,
        "Read from classes where that costs",
        &told.retrieved,
    );
    chart(
        &mut html,
        "Replaced before the minimum duration of their class is over",
        &told.early_deletions,
    );
    chart(&mut html, "Stay as old versions", &told.old_versions);
    requests(&mut html, told);
    if let Some(costs) = &told.cost {
        cost_table(&mut html, costs);
    }
    time_table(&mut html, told);
    html.push_str("</main>\n</body>\n</html>\n");
    html
}

fn put(html: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = html.write_fmt(text);
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_uppercase().chain(chars).collect(),
        None => String::new(),
    }
}

/// The answer in two sentences.
fn lead(told: &Told) -> String {
    let of = |name| told.course(name).map_or_else(|| "0".to_owned(), share);
    let mut text = format!(
        "Of {} rows, <b>{}</b> would be rewritten",
        human::count(told.rows),
        of("rewrite")
    );
    for (name, verb) in [("skip", "skipped"), ("refuse", "refused"), ("fail", "fail")] {
        if let Some(course) = told.course(name) {
            let count = number(course.objects, human::count);
            put(&mut text, format_args!(", {count} {verb}"));
        }
    }
    text.push('.');
    if let Some(pace) = told.bottleneck() {
        put(
            &mut text,
            format_args!(
                " It would take at least <b>{}</b>, held by {}",
                time(pace.seconds),
                escape(&pace.limit)
            ),
        );
        match &told.cost {
            Some(costs) => put(
                &mut text,
                format_args!(
                    ", and cost <b>{} {}</b>.",
                    escape(&costs.currency),
                    money(costs.total)
                ),
            ),
            None => text.push('.'),
        }
    }
    text
}

fn about_table(html: &mut String, told: &Told) {
    let about = &told.about;
    html.push_str("<table class=\"about\">\n");
    let store = about.endpoint_url.as_deref().unwrap_or("AWS");
    let key = about.kms_key.as_deref().unwrap_or("");
    for (name, value) in [
        ("Manifest", about.manifest.as_str()),
        ("Bucket", &about.bucket),
        ("Store", store),
        ("Target", &about.target),
        ("KMS key", key),
        ("Planned", &about.planned_at),
        ("Command", &about.command),
    ] {
        if !value.is_empty() {
            put(
                html,
                format_args!("<tr><th>{name}</th><td>{}</td></tr>\n", escape(value)),
            );
        }
    }
    for (filter, rows) in &about.left_out {
        let rows = human::count(*rows);
        put(
            html,
            format_args!("<tr><th>Left out by {filter}</th><td>{rows} rows</td></tr>\n"),
        );
    }
    html.push_str("</table>\n");
}

fn findings(html: &mut String, told: &Told) {
    if told.findings.is_empty() {
        return;
    }
    html.push_str("<h2>To know before the first write</h2>\n<ul class=\"findings\">\n");
    for finding in &told.findings {
        put(
            html,
            format_args!(
                "<li class=\"{level}\"><b>{level}</b> {}</li>\n",
                escape(&finding.message),
                level = finding.level
            ),
        );
    }
    html.push_str("</ul>\n");
}

/// A table with a bar for each share of the objects.
fn chart(html: &mut String, title: &str, shares: &[Share]) {
    let all: u64 = shares.iter().map(|share| share.objects.value).sum();
    if all == 0 {
        return;
    }
    put(
        html,
        format_args!(
            "<h2>{title}</h2>\n<table class=\"chart\">\n\
             <tr><th></th><th>objects</th><th>bytes</th><th>of the objects</th></tr>\n"
        ),
    );
    for share in shares {
        let percent = share.objects.value as f64 * 100.0 / all as f64;
        let examples = match share.examples.is_empty() {
            true => String::new(),
            false => {
                let keys = share.examples.iter().map(|key| escape(key));
                let keys: Vec<_> = keys.map(|key| format!("<code>{key}</code>")).collect();
                format!("<div class=\"examples\">such as {}</div>", keys.join(" "))
            }
        };
        put(
            html,
            format_args!(
                "<tr><td>{name}{examples}</td><td class=\"n\">{objects}</td><td class=\"n\">{bytes}</td>\
                 <td class=\"bar\"><svg role=\"img\" aria-label=\"{percent:.1} %\" viewBox=\"0 0 100 10\" \
                 preserveAspectRatio=\"none\"><rect class=\"all\" width=\"100\" height=\"10\"/>\
                 <rect class=\"part\" width=\"{percent:.3}\" height=\"10\"/></svg><span>{percent:.1} %</span></td></tr>\n",
                name = escape(&share.name),
                objects = number(share.objects, human::count),
                bytes = number(share.bytes, human::bytes),
            ),
        );
    }
    html.push_str("</table>\n");
}

fn requests(html: &mut String, told: &Told) {
    html.push_str("<h2>Requests</h2>\n<table>\n");
    let row = |html: &mut String, name: &str, count: Number| {
        put(
            html,
            format_args!(
                "<tr><td>{name}</td><td class=\"n\">{}</td></tr>\n",
                number(count, human::count)
            ),
        );
    };
    for requests in &told.requests {
        row(html, requests.operation, requests.requests);
    }
    let kms = &told.kms_requests;
    row(html, "KMS, as asked for", kms.as_asked);
    row(
        html,
        "KMS, if all of it had bucket keys",
        kms.with_bucket_key,
    );
    row(html, "KMS, if none had", kms.without_bucket_key);
    html.push_str("</table>\n");
}

fn cost_table(html: &mut String, costs: &Costs) {
    put(
        html,
        format_args!("<h2>Cost in {}</h2>\n<table>\n", escape(&costs.currency)),
    );
    for (name, amount) in [
        ("Requests to S3", costs.requests),
        ("Requests to KMS", costs.kms),
        ("DSSE-KMS", costs.dsse),
        ("Retrieval", costs.retrieval),
        ("Rest of minimum durations", costs.early_deletion),
        ("Together", costs.total),
        ("Old versions, a month", costs.old_versions_per_month),
    ] {
        put(
            html,
            format_args!(
                "<tr><td>{name}</td><td class=\"n\">{}</td></tr>\n",
                money(amount)
            ),
        );
    }
    put(
        html,
        format_args!(
            "</table>\n<p class=\"small\">List prices of {}, without discounts or free tiers.</p>\n",
            escape(&costs.prices_of)
        ),
    );
}

fn time_table(html: &mut String, told: &Told) {
    if told.time.is_empty() {
        return;
    }
    html.push_str("<h2>Time under each limit</h2>\n<table>\n");
    for pace in &told.time {
        put(
            html,
            format_args!(
                "<tr><td>{}</td><td class=\"n\">{}</td></tr>\n",
                escape(&pace.limit),
                time(pace.seconds)
            ),
        );
    }
    html.push_str("</table>\n<p class=\"small\">The longest holds. Throttling and a store's own pace come on top.</p>\n");
}
