//! Patterns for keys.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest pattern, in bytes.
pub const PATTERN_BYTES_MAX: usize = 1_024;

/// A pattern that a whole key has to match: `*` is any characters, or none, slashes too, `?` is one character, and a backslash before
/// one of these three stands for the character itself. So `logs/*` is a prefix and `*.csv` a suffix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern {
    text: String,
    tokens: Vec<Token>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    /// Any characters, or none.
    Any,
    /// One character.
    One,
    This(char),
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("an empty pattern matches no key".to_owned());
        }
        if text.len() > PATTERN_BYTES_MAX {
            return Err(format!("a pattern has at most {PATTERN_BYTES_MAX} bytes"));
        }
        let mut tokens = Vec::new();
        let mut chars = text.chars();
        while let Some(char) = chars.next() {
            tokens.push(match char {
                '*' => Token::Any,
                '?' => Token::One,
                '\\' => match chars.next() {
                    Some(escaped @ ('*' | '?' | '\\')) => Token::This(escaped),
                    _ => {
                        return Err(format!(
                            "{text:?} has a backslash before none of *, ? and \\; write \\\\ for one"
                        ));
                    }
                },
                char => Token::This(char),
            });
        }
        tokens.dedup_by(|b, a| (*a, *b) == (Token::Any, Token::Any));
        Ok(Self {
            text: text.to_owned(),
            tokens,
        })
    }
}

impl TryFrom<String> for Pattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.text
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Pattern {
    /// Whether the whole key matches. Takes at most as many steps as key and pattern are long, multiplied.
    pub fn matches(&self, key: &str) -> bool {
        let mut at = 0;
        let mut rest = key.chars();
        // Behind the last star, and what it has not taken yet.
        let mut star: Option<(usize, std::str::Chars<'_>)> = None;
        loop {
            let token = self.tokens.get(at);
            if token == Some(&Token::Any) {
                at += 1;
                star = Some((at, rest.clone()));
                continue;
            }
            let fits = match (token, rest.next()) {
                (None, None) => return true,
                (Some(Token::One), Some(_)) => true,
                (Some(Token::This(wanted)), Some(found)) => *wanted == found,
                _ => false,
            };
            if fits {
                at += 1;
                continue;
            }
            // The star takes one character more.
            let Some((behind, taken)) = &mut star else {
                return false;
            };
            if taken.next().is_none() {
                return false;
            }
            at = *behind;
            rest = taken.clone();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pattern(text: &str) -> Pattern {
        text.parse().expect("sound")
    }

    #[test]
    fn a_pattern_is_held_against_the_whole_key() {
        let table = [
            ("logs/*", "logs/a/b", true),
            ("logs/*", "logs/", true),
            ("logs/*", "old/logs/a", false),
            ("*.csv", "a/b.csv", true),
            ("*.csv", "a/b.csv.gz", false),
            ("*/2024/*", "a/b/2024/c", true),
            ("a?c", "aéc", true),
            ("a?c", "ac", false),
            ("a\\*c", "a*c", true),
            ("a\\*c", "abc", false),
            ("a\\\\c", "a\\c", true),
            ("plain", "plain", true),
            ("plain", "plain/more", false),
            ("*", "", true),
            ("**a**b**", "xaxbx", true),
            ("A", "a", false),
        ];
        for (text, key, expected) in table {
            assert_eq!(pattern(text).matches(key), expected, "{text} {key}");
        }
        for bad in ["", "a\\", "a\\b", &"k".repeat(PATTERN_BYTES_MAX + 1)] {
            assert!(bad.parse::<Pattern>().is_err(), "{bad}");
        }
    }

    /// What the definition says, word by word.
    fn by_definition(pattern: &[char], key: &[char]) -> bool {
        match pattern.split_first() {
            None => key.is_empty(),
            Some(('*', rest)) => (0..=key.len()).any(|at| by_definition(rest, &key[at..])),
            Some(('?', rest)) => !key.is_empty() && by_definition(rest, &key[1..]),
            Some((char, rest)) => key.first() == Some(char) && by_definition(rest, &key[1..]),
        }
    }

    proptest! {
        #[test]
        fn it_matches_what_its_definition_says(text in "[ab*?]{1,8}", key in "[ab]{0,8}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            let expected = by_definition(&chars(&text), &chars(&key));
            prop_assert_eq!(pattern(&text).matches(&key), expected);
        }
    }
}
