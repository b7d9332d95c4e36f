//! What things cost: a table that is data, with its date, and that anybody can replace.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::event::Operation;

/// The largest price table that is read, in bytes: ours has two KiB.
pub const PRICES_BYTES_MAX: u64 = 1 << 20;

/// AWS's list prices as they were at the table's date.
const SHIPPED: &str = include_str!("prices.json");

/// Bytes of a gigabyte, as S3 bills them. Source: Amazon S3 FAQs, "How will I be charged and billed for my use of Amazon S3?": 1 GB is
/// 2^30 bytes.
pub(super) const GB: f64 = (1_u64 << 30) as f64;
/// Days of a month, as storage is billed for. Source: the examples of the same page.
pub(super) const MONTH_DAYS: f64 = 30.0;

/// A price table.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prices {
    /// When these were the prices: a date.
    pub date: String,
    /// Where.
    pub region: String,
    /// In what currency.
    pub currency: String,
    /// What else there is to be said of them.
    #[serde(default)]
    pub note: String,
    /// For 10,000 requests to KMS.
    kms_per_10000: f64,
    /// For each GB that is written under DSSE-KMS.
    dsse_kms_per_gb: f64,
    /// By storage class; what is not there costs what STANDARD does.
    classes: BTreeMap<String, Class>,
}

/// The prices of one storage class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Class {
    /// For 1,000 requests that write: PUT, COPY, POST, LIST.
    write_per_1000: f64,
    /// For 1,000 others.
    read_per_1000: f64,
    /// For each GB that is read, also by a copy.
    pub retrieval_per_gb: f64,
    /// For each GB and month.
    pub storage_per_gb_month: f64,
    /// What is deleted or overwritten earlier is billed for so many days.
    pub minimum_days: u32,
}

impl Prices {
    /// The table that comes with the binary.
    ///
    /// # Panics
    /// Never: a test reads it.
    pub fn shipped() -> Self {
        Self::parse(SHIPPED.as_bytes()).expect("a test has read it")
    }

    /// A table that somebody has written.
    ///
    /// # Errors
    /// It is no such table, or has a price below nothing.
    pub fn parse(json: &[u8]) -> Result<Self, String> {
        let prices: Self = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        let of_classes = prices.classes.iter().flat_map(|(name, class)| {
            [
                class.write_per_1000,
                class.read_per_1000,
                class.retrieval_per_gb,
                class.storage_per_gb_month,
            ]
            .map(|price| (name.as_str(), price))
        });
        let all = [
            ("kms_per_10000", prices.kms_per_10000),
            ("dsse_kms_per_gb", prices.dsse_kms_per_gb),
        ];
        let below_nothing = all
            .into_iter()
            .chain(of_classes)
            .find(|(_, price)| *price < 0.0)
            .map(|(what, price)| format!("{what} has a price of {price}"));
        match below_nothing {
            Some(why) => Err(why),
            None => Ok(prices),
        }
    }

    /// The prices of a storage class.
    pub fn class(&self, name: &str) -> Class {
        let class = self
            .classes
            .get(name)
            .or_else(|| self.classes.get("STANDARD"));
        class.copied().unwrap_or_default()
    }

    /// For that many requests to KMS.
    pub(super) fn kms(&self, requests: u64) -> f64 {
        requests as f64 * self.kms_per_10000 / 10_000.0
    }

    /// For writing that many bytes under DSSE-KMS.
    pub(super) fn dsse_kms(&self, bytes: u64) -> f64 {
        bytes as f64 / GB * self.dsse_kms_per_gb
    }
}

impl Class {
    /// For that many requests of one kind. Deleting and giving up are free. UpdateObjectEncryption is taken to cost what a PUT does.
    /// Source: Amazon S3 pricing, "Requests & data retrievals".
    pub(super) fn requests(&self, operation: Operation, count: u64) -> f64 {
        let per_1000 = match operation {
            Operation::DeleteObject | Operation::AbortMultipartUpload => 0.0,
            Operation::CopyObject
            | Operation::UpdateObjectEncryption
            | Operation::CreateMultipartUpload
            | Operation::UploadPartCopy
            | Operation::CompleteMultipartUpload
            | Operation::ListParts
            | Operation::ListObjectVersions => self.write_per_1000,
            Operation::HeadObject
            | Operation::GetObject
            | Operation::GetObjectAcl
            | Operation::GetObjectRetention
            | Operation::GetObjectLegalHold
            | Operation::GetObjectTagging
            | Operation::ListObjectAnnotations => self.read_per_1000,
        };
        count as f64 * per_1000 / 1_000.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_that_is_shipped_is_one_and_others_are_held_against_it() {
        let shipped = Prices::shipped();
        assert_eq!(shipped.class("STANDARD_IA").minimum_days, 30);
        assert_eq!(shipped.class("SNOW"), shipped.class("STANDARD"));
        for (from, to) in [
            ("\"currency\"", "\"curency\""),
            ("0.003,", "-0.003,"),
            ("\"write_per_1000\": 0.01,", "\"write_per_1000\": -1,"),
        ] {
            let broken = SHIPPED.replacen(from, to, 1);
            assert_ne!(broken, SHIPPED, "{from}");
            Prices::parse(broken.as_bytes()).expect_err(from);
        }
    }
}
