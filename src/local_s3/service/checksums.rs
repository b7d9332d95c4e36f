//! Checksums: what a request claims, what the bytes say, and how parts add up.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hyper::HeaderMap;
use s3s::checksum::ChecksumHasher;
use s3s::crypto::Checksum as _;
use s3s::{S3Error, S3ErrorCode, S3Result, TrailingHeaders, dto};

use crate::local_s3::model::{ChecksumAlgorithm, ChecksumKind};

/// All algorithms in the order in which S3 lists them.
const ALGORITHMS: [ChecksumAlgorithm; 5] = [
    ChecksumAlgorithm::Crc32,
    ChecksumAlgorithm::Crc32c,
    ChecksumAlgorithm::Crc64nvme,
    ChecksumAlgorithm::Sha1,
    ChecksumAlgorithm::Sha256,
];

/// What S3 adds to an object that came without a checksum.
/// Source: S3 User Guide, "Checking object integrity".
pub(super) const DEFAULT: ChecksumAlgorithm = ChecksumAlgorithm::Crc64nvme;

impl ChecksumAlgorithm {
    /// S3's name of it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Crc32 => "CRC32",
            Self::Crc32c => "CRC32C",
            Self::Crc64nvme => "CRC64NVME",
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
        }
    }

    /// Reads S3's name.
    ///
    /// # Errors
    /// 400 InvalidRequest for a name that is none, or one that this server does not carry.
    pub(super) fn parse(name: &str) -> S3Result<Self> {
        let found = ALGORITHMS
            .into_iter()
            .find(|algorithm| algorithm.as_str().eq_ignore_ascii_case(name));
        found.ok_or_else(|| {
            invalid_request(
                "Checksum algorithm provided is unsupported. Please try again with any of the valid types: \
                 [CRC32, CRC32C, CRC64NVME, SHA1, SHA256]",
            )
        })
    }

    fn header(self) -> &'static str {
        match self {
            Self::Crc32 => "x-amz-checksum-crc32",
            Self::Crc32c => "x-amz-checksum-crc32c",
            Self::Crc64nvme => "x-amz-checksum-crc64nvme",
            Self::Sha1 => "x-amz-checksum-sha1",
            Self::Sha256 => "x-amz-checksum-sha256",
        }
    }

    fn length(self) -> usize {
        match self {
            Self::Crc32 | Self::Crc32c => 4,
            Self::Crc64nvme => 8,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }

    /// What S3 takes when an upload names the algorithm and not the type.
    pub(super) fn default_kind(self) -> ChecksumKind {
        if self == Self::Crc64nvme {
            ChecksumKind::FullObject
        } else {
            ChecksumKind::Composite
        }
    }

    /// Whether S3 offers the combination for multipart uploads.
    /// Source: S3 User Guide, "Checking object integrity", table of full object and composite types.
    pub(super) fn allows(self, kind: ChecksumKind) -> bool {
        match kind {
            ChecksumKind::FullObject => !matches!(self, Self::Sha1 | Self::Sha256),
            ChecksumKind::Composite => self != Self::Crc64nvme,
        }
    }
}

impl ChecksumKind {
    /// The word S3 uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FullObject => "FULL_OBJECT",
            Self::Composite => "COMPOSITE",
        }
    }

    /// Reads the word S3 uses.
    ///
    /// # Errors
    /// 400 InvalidRequest for another word.
    pub(super) fn parse(word: &str) -> S3Result<Self> {
        let found = [Self::FullObject, Self::Composite]
            .into_iter()
            .find(|kind| kind.as_str() == word);
        found.ok_or_else(|| invalid_request("Value for x-amz-checksum-type header is invalid."))
    }
}

/// The five checksum members of an s3s input, each where it was sent.
macro_rules! sent_checksums {
    ($input:expr) => {
        [
            $input.checksum_crc32.as_deref(),
            $input.checksum_crc32c.as_deref(),
            $input.checksum_crc64nvme.as_deref(),
            $input.checksum_sha1.as_deref(),
            $input.checksum_sha256.as_deref(),
        ]
    };
}
pub(super) use sent_checksums;

/// Sets that one of the five checksum members of an s3s output which belongs to `algorithm`.
macro_rules! show_checksum {
    ($output:expr, $algorithm:expr, $value:expr) => {{
        use $crate::local_s3::model::ChecksumAlgorithm as Algorithm;
        let value = Some($value);
        match $algorithm {
            Algorithm::Crc32 => $output.checksum_crc32 = value,
            Algorithm::Crc32c => $output.checksum_crc32c = value,
            Algorithm::Crc64nvme => $output.checksum_crc64nvme = value,
            Algorithm::Sha1 => $output.checksum_sha1 = value,
            Algorithm::Sha256 => $output.checksum_sha256 = value,
        }
    }};
}
pub(super) use show_checksum;

/// The one checksum that the members of an s3s input hold, in the order of [`sent_checksums`].
///
/// # Errors
/// 400 InvalidRequest when there are several.
pub(super) fn the_one(sent: [Option<&str>; 5]) -> S3Result<Option<(ChecksumAlgorithm, String)>> {
    let mut found = ALGORITHMS
        .into_iter()
        .zip(sent)
        .filter_map(|(algorithm, value)| Some((algorithm, value?)));
    let first = found.next();
    if found.next().is_some() {
        return Err(invalid_request(
            "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.",
        ));
    }
    Ok(first.map(|(algorithm, value)| (algorithm, value.to_owned())))
}

/// The checksum that came with a body.
#[derive(Debug)]
pub(super) struct Claim {
    pub algorithm: ChecksumAlgorithm,
    value: Claimed,
}

#[derive(Debug)]
enum Claimed {
    Header(String),
    /// It comes after the body.
    Trailer(TrailingHeaders),
}

impl Claim {
    /// Reads the claim of a request with a body.
    ///
    /// # Errors
    /// 400 InvalidRequest for several checksums, one that is none, or an announced one that is not there.
    pub(super) fn of(
        sent: [Option<&str>; 5],
        headers: &HeaderMap,
        trailers: Option<TrailingHeaders>,
    ) -> S3Result<Option<Self>> {
        let announced = text(headers, "x-amz-sdk-checksum-algorithm")
            .map(ChecksumAlgorithm::parse)
            .transpose()?;
        let claim = match the_one(sent)? {
            Some((algorithm, value)) => {
                check_form(algorithm, &value)?;
                Some(Self {
                    algorithm,
                    value: Claimed::Header(value),
                })
            }
            None => trailing(headers, trailers).map(|(algorithm, value)| Self { algorithm, value }),
        };
        match (announced, &claim) {
            (Some(_), None) => Err(invalid_request(
                "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer \
                 headers were found.",
            )),
            (Some(announced), Some(claim)) if announced != claim.algorithm => Err(invalid_request(
                "Value for x-amz-sdk-checksum-algorithm header is invalid.",
            )),
            _ => Ok(claim),
        }
    }

    /// Compares with what the bytes say; to be called when the body has been read to its end.
    ///
    /// # Errors
    /// 400 BadDigest; 400 MalformedTrailerError when an announced trailer did not come.
    pub(super) fn check(&self, calculated: &str) -> S3Result<()> {
        let claimed = match &self.value {
            Claimed::Header(value) => value.clone(),
            Claimed::Trailer(trailers) => {
                let value = trailers
                    .read(|headers| text(headers, self.algorithm.header()).map(str::to_owned));
                let value = value.flatten().ok_or_else(malformed_trailer)?;
                check_form(self.algorithm, &value)?;
                value
            }
        };
        if claimed == calculated {
            Ok(())
        } else {
            Err(mismatch(self.algorithm))
        }
    }
}

fn trailing(
    headers: &HeaderMap,
    trailers: Option<TrailingHeaders>,
) -> Option<(ChecksumAlgorithm, Claimed)> {
    let named = text(headers, "x-amz-trailer")?;
    let mut names = named.split(',').map(str::trim);
    let algorithm = names.find_map(|name| {
        ALGORITHMS
            .into_iter()
            .find(|algorithm| algorithm.header().eq_ignore_ascii_case(name))
    })?;
    Some((algorithm, Claimed::Trailer(trailers?)))
}

fn check_form(algorithm: ChecksumAlgorithm, value: &str) -> S3Result<()> {
    let bytes = BASE64.decode(value).ok();
    if bytes.is_some_and(|bytes| bytes.len() == algorithm.length()) {
        return Ok(());
    }
    Err(S3Error::with_message(
        S3ErrorCode::InvalidRequest,
        format!("Value for {} header is invalid.", algorithm.header()),
    ))
}

fn malformed_trailer() -> S3Error {
    let message = "The request contained trailing data that was not well-formed or did not conform to our published schema.";
    let mut error =
        S3Error::with_message(S3ErrorCode::Custom("MalformedTrailerError".into()), message);
    error.set_status_code(hyper::StatusCode::BAD_REQUEST);
    error
}

/// 400 BadDigest about a checksum.
pub(super) fn mismatch(algorithm: ChecksumAlgorithm) -> S3Error {
    S3Error::with_message(
        S3ErrorCode::BadDigest,
        format!(
            "The {} you specified did not match the calculated checksum.",
            algorithm.as_str()
        ),
    )
}

/// A hasher for several algorithms at once.
pub(super) fn hasher(algorithms: &[ChecksumAlgorithm]) -> ChecksumHasher {
    let mut hasher = ChecksumHasher::default();
    for algorithm in algorithms {
        match algorithm {
            ChecksumAlgorithm::Crc32 => hasher.crc32 = Some(s3s::crypto::Crc32::new()),
            ChecksumAlgorithm::Crc32c => hasher.crc32c = Some(s3s::crypto::Crc32c::new()),
            ChecksumAlgorithm::Crc64nvme => hasher.crc64nvme = Some(s3s::crypto::Crc64Nvme::new()),
            ChecksumAlgorithm::Sha1 => hasher.sha1 = Some(s3s::crypto::Sha1::new()),
            ChecksumAlgorithm::Sha256 => hasher.sha256 = Some(s3s::crypto::Sha256::new()),
        }
    }
    hasher
}

/// What a hasher has found for one of its algorithms, base64.
///
/// # Panics
/// When the hasher was made without the algorithm.
pub(super) fn value(found: &dto::Checksum, algorithm: ChecksumAlgorithm) -> String {
    let value = match algorithm {
        ChecksumAlgorithm::Crc32 => &found.checksum_crc32,
        ChecksumAlgorithm::Crc32c => &found.checksum_crc32c,
        ChecksumAlgorithm::Crc64nvme => &found.checksum_crc64nvme,
        ChecksumAlgorithm::Sha1 => &found.checksum_sha1,
        ChecksumAlgorithm::Sha256 => &found.checksum_sha256,
    };
    value
        .clone()
        .expect("the hasher was made for the algorithm that is asked of it")
}

/// The checksum of a multipart object out of those of its parts, each with the part's size in bytes.
///
/// # Errors
/// InternalError when a part's stored checksum is none.
pub(super) fn of_parts<'a>(
    algorithm: ChecksumAlgorithm,
    kind: ChecksumKind,
    parts: impl Iterator<Item = (&'a str, u64)>,
) -> S3Result<String> {
    let parts = parts
        .map(|(value, size)| Ok((raw(algorithm, value)?, size)))
        .collect::<S3Result<Vec<_>>>()?;
    match kind {
        ChecksumKind::Composite => {
            let mut hasher = hasher(&[algorithm]);
            for (bytes, _) in &parts {
                hasher.update(bytes);
            }
            Ok(format!(
                "{}-{}",
                value(&hasher.finalize(), algorithm),
                parts.len()
            ))
        }
        ChecksumKind::FullObject => {
            let crc = match algorithm {
                ChecksumAlgorithm::Crc32 => crc_fast::CrcAlgorithm::Crc32IsoHdlc,
                ChecksumAlgorithm::Crc32c => crc_fast::CrcAlgorithm::Crc32Iscsi,
                ChecksumAlgorithm::Crc64nvme => crc_fast::CrcAlgorithm::Crc64Nvme,
                ChecksumAlgorithm::Sha1 | ChecksumAlgorithm::Sha256 => {
                    return Err(S3Error::with_message(
                        S3ErrorCode::InternalError,
                        "a hash has no full-object form",
                    ));
                }
            };
            let number = |bytes: &[u8]| {
                bytes
                    .iter()
                    .fold(0, |number, byte| number << 8 | u64::from(*byte))
            };
            let combined = parts.iter().map(|(bytes, size)| (number(bytes), *size));
            let combined = combined.reduce(|(whole, length), (part, size)| {
                (
                    crc_fast::checksum_combine(crc, whole, part, size),
                    length + size,
                )
            });
            let combined = combined.map_or(0, |(crc, _)| crc).to_be_bytes();
            Ok(BASE64.encode(&combined[combined.len() - algorithm.length()..]))
        }
    }
}

fn raw(algorithm: ChecksumAlgorithm, value: &str) -> S3Result<Vec<u8>> {
    let bytes = BASE64.decode(value).map_err(S3Error::internal_error)?;
    if bytes.len() == algorithm.length() {
        return Ok(bytes);
    }
    Err(S3Error::with_message(
        S3ErrorCode::InternalError,
        "a part's checksum has a wrong length",
    ))
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn invalid_request(message: &'static str) -> S3Error {
    S3Error::with_message(S3ErrorCode::InvalidRequest, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// However an object is cut into parts, the parts' CRCs combine to the CRC of the whole.
        #[test]
        fn full_object_crc_does_not_depend_on_the_parts(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 1..6),
        ) {
            for algorithm in ALGORITHMS.into_iter().filter(|a| a.allows(ChecksumKind::FullObject)) {
                let of = |bytes: &[u8]| {
                    let mut hasher = hasher(&[algorithm]);
                    hasher.update(bytes);
                    value(&hasher.finalize(), algorithm)
                };
                let values: Vec<_> = parts.iter().map(|part| (of(part), part.len() as u64)).collect();
                let combined = of_parts(
                    algorithm,
                    ChecksumKind::FullObject,
                    values.iter().map(|(value, size)| (value.as_str(), *size)),
                );
                prop_assert_eq!(combined.unwrap(), of(&parts.concat()));
            }
        }
    }
}
