//! Text for a person: counts, sizes, durations, and text that came from outside made safe for a terminal.

use std::fmt::Write as _;
use std::time::Duration;

/// A count with its thousands apart: `1,234,567`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count and its noun: `1 row`, `2 rows`.
pub fn count_of(n: u64, noun: &str) -> String {
    let plural = if n == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", count(n))
}

/// Bytes in lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A size in the largest binary unit that keeps it above one: `123 B`, `1.5 KiB`, `2.0 TiB`.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if n < 1024 {
        return format!("{n} B");
    }
    let mut size = n as f64 / 1024.0;
    let mut unit = 0;
    // 1023.95 would be shown as 1024.0.
    while size >= 1023.95 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{size:.1} {}", UNITS[unit])
}

/// A duration with its two largest units: `0.4s`, `12s`, `3m 05s`, `2h 03m`, `4d 01h`.
pub fn duration(d: Duration) -> String {
    let s = d.as_secs();
    match s {
        0..10 => format!("{:.1}s", d.as_secs_f64()),
        10..60 => format!("{s}s"),
        60..3_600 => format!("{}m {:02}s", s / 60, s % 60),
        3_600..86_400 => format!("{}h {:02}m", s / 3_600, s / 60 % 60),
        _ => format!("{}d {:02}h", s / 86_400, s / 3_600 % 24),
    }
}

/// Untrusted text (an object's key, a store's message) on one line of a terminal: control and direction-changing
/// characters are escaped, and at most `chars_max` characters are shown, the rest as `…`.
pub fn sanitize(text: &str, chars_max: usize) -> String {
    let mut clean = String::with_capacity(text.len().min(chars_max));
    for (i, c) in text.chars().enumerate() {
        if i == chars_max {
            clean.push('…');
            break;
        }
        if c.is_control() || is_format(c) {
            // Writing to a String cannot fail.
            let _ = write!(clean, "{}", c.escape_default());
        } else {
            clean.push(c);
        }
    }
    clean
}

/// Characters that show nothing themselves and change how their neighbours are shown: zero-width characters, line and
/// paragraph separators, bidirectional overrides and isolates, the byte order mark, tags.
/// Source: Unicode 16, general categories Cf, Zl, Zp; UTS #55 for why they matter in text from outside.
fn is_format(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        let counts = [0, 999, 1_000, 12_345, 1_234_567].map(count);
        assert_eq!(counts, ["0", "999", "1,000", "12,345", "1,234,567"]);
        assert_eq!([1, 2].map(|n| count_of(n, "row")), ["1 row", "2 rows"]);
        let sizes = [0, 1_023, 1_024, 1_536, 1_048_575, u64::MAX].map(bytes);
        assert_eq!(
            sizes,
            ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "1.0 MiB", "16.0 EiB"]
        );
        let durations = [400, 12_000, 185_000, 7_400_000, 350_000_000]
            .map(|ms| duration(Duration::from_millis(ms)));
        assert_eq!(durations, ["0.4s", "12s", "3m 05s", "2h 03m", "4d 01h"]);
    }

    #[test]
    fn untrusted_text_stays_on_its_line_and_cannot_steer_the_terminal() {
        assert_eq!(
            sanitize("a\u{1b}[31m\n\t\u{9b}z", 99),
            "a\\u{1b}[31m\\n\\t\\u{9b}z"
        );
        assert_eq!(
            sanitize("gnp\u{202e}.exe\u{200b}", 99),
            "gnp\\u{202e}.exe\\u{200b}"
        );
        assert_eq!(sanitize("Grüße/日本 语.txt", 99), "Grüße/日本 语.txt");
        assert_eq!(sanitize("abcdef", 3), "abc…");
        assert_eq!(sanitize("abc", 3), "abc");
    }
}
