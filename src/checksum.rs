//! The checksums that S3 keeps of whole objects, computed over bytes as they are read.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use crc_fast::CrcAlgorithm;
use md5::{Digest as _, Md5};
use sha1::Sha1;
use sha2::{Sha256, Sha512};

/// A checksum that is being computed.
#[derive(Debug)]
pub struct Hasher(Algorithm);

enum Algorithm {
    Crc(crc_fast::Digest, usize),
    Md5(Md5),
    Sha1(Sha1),
    Sha256(Sha256),
    Sha512(Sha512),
}

impl std::fmt::Debug for Algorithm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Crc(..) => "CRC",
            Self::Md5(_) => "MD5",
            Self::Sha1(_) => "SHA1",
            Self::Sha256(_) => "SHA256",
            Self::Sha512(_) => "SHA512",
        })
    }
}

impl Hasher {
    /// The algorithm of that name, S3's spelling; `None` where it is none of those that can be computed here.
    /// Source: S3 User Guide, "Checking object integrity".
    pub fn of(algorithm: &str) -> Option<Self> {
        let crc = |algorithm, bytes| Algorithm::Crc(crc_fast::Digest::new(algorithm), bytes);
        Some(Self(match algorithm {
            "CRC32" => crc(CrcAlgorithm::Crc32IsoHdlc, 4),
            "CRC32C" => crc(CrcAlgorithm::Crc32Iscsi, 4),
            "CRC64NVME" => crc(CrcAlgorithm::Crc64Nvme, 8),
            "MD5" => Algorithm::Md5(Md5::new()),
            "SHA1" => Algorithm::Sha1(Sha1::new()),
            "SHA256" => Algorithm::Sha256(Sha256::new()),
            "SHA512" => Algorithm::Sha512(Sha512::new()),
            _ => return None,
        }))
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            Algorithm::Crc(crc, _) => crc.update(bytes),
            Algorithm::Md5(md5) => md5.update(bytes),
            Algorithm::Sha1(sha) => sha.update(bytes),
            Algorithm::Sha256(sha) => sha.update(bytes),
            Algorithm::Sha512(sha) => sha.update(bytes),
        }
    }

    /// The checksum of all bytes that it was given.
    pub fn finish(self) -> Vec<u8> {
        match self.0 {
            Algorithm::Crc(crc, bytes) => {
                let all = crc.finalize().to_be_bytes();
                all[all.len() - bytes..].to_vec()
            }
            Algorithm::Md5(md5) => md5.finalize().to_vec(),
            Algorithm::Sha1(sha) => sha.finalize().to_vec(),
            Algorithm::Sha256(sha) => sha.finalize().to_vec(),
            Algorithm::Sha512(sha) => sha.finalize().to_vec(),
        }
    }

    /// The same as S3 writes it.
    pub fn finish_base64(self) -> String {
        BASE64.encode(self.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Source: the check values of each algorithm over "123456789" in the catalogue of CRCs, and FIPS 180's and RFC 1321's own.
    #[test]
    fn each_algorithm_has_its_check_value() {
        for (algorithm, hex) in [
            ("CRC32", "cbf43926"),
            ("CRC32C", "e3069283"),
            ("CRC64NVME", "ae8b14860a799888"),
            ("MD5", "25f9e794323b453885f5181f1b624d0b"),
            ("SHA1", "f7c3bc1d808e04732adf679965ccc34ca7ae3441"),
            (
                "SHA256",
                "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225",
            ),
        ] {
            let mut hasher = Hasher::of(algorithm).expect("known");
            hasher.update(b"1234");
            hasher.update(b"56789");
            let found: String = hasher
                .finish()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            assert_eq!(found, hex, "{algorithm}");
        }
        assert!(Hasher::of("XXHASH64").is_none());
    }
}
