use std::fs;
use std::sync::Arc;
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use md5::{Digest as _, Md5};
use tempfile::TempDir;

use super::envelope::Sealing;
use super::*;

const BUCKET: &str = "bucket";
const KEY: &str = "a/../b%+\n\u{1f511}";

fn vault() -> (TempDir, Vault) {
    let dir = tempfile::tempdir().unwrap();
    let vault = Vault::open(dir.path()).unwrap();
    (dir, vault)
}

fn sse_kms(key: Option<&str>, bucket_key: bool) -> Want {
    Want::SseKms {
        key: key.map(str::to_owned),
        bucket_key,
        context: EncryptionContext::from([("team".to_owned(), "blue".to_owned())]),
    }
}

fn dsse_kms(key: Option<&str>) -> Want {
    Want::DsseKms {
        key: key.map(str::to_owned),
        context: EncryptionContext::new(),
    }
}

fn customer_key(byte: u8) -> CustomerKey {
    CustomerKey::from_bytes(&[byte; 32]).unwrap()
}

fn every_want() -> Vec<Want> {
    vec![
        Want::SseS3,
        sse_kms(None, false),
        sse_kms(None, true),
        dsse_kms(None),
        Want::SseC(customer_key(1)),
    ]
}

/// The key that must come along to open what `want` sealed.
fn needed(want: &Want) -> Option<&CustomerKey> {
    match want {
        Want::SseC(key) => Some(key),
        _ => None,
    }
}

fn exposed(keys: &DataKeys) -> (Vec<u8>, Option<Vec<u8>>) {
    let outer = keys.outer.as_ref().map(|key| key.expose().to_vec());
    (keys.inner.expose().to_vec(), outer)
}

/// As the object store keeps it.
fn stored(envelope: &Envelope) -> Envelope {
    serde_json::from_str(&serde_json::to_string(envelope).unwrap()).unwrap()
}

#[track_caller]
fn assert_refused<T>(result: Result<T, VaultError>, status: u16, code: &str) {
    let error = result.err().expect("expected a refusal");
    assert_eq!(
        (error.http_status(), error.code()),
        (status, code),
        "{error}"
    );
}

#[test]
fn every_mode_opens_what_it_sealed_also_after_a_restart() {
    let (dir, vault) = vault();
    for want in every_want() {
        let (envelope, keys) = vault.seal(&want, BUCKET, KEY).unwrap();
        let later = Vault::open(dir.path()).unwrap();
        let opened = later
            .unseal(&stored(&envelope), BUCKET, KEY, needed(&want))
            .unwrap();
        assert_eq!(exposed(&opened), exposed(&keys), "{want:?}");
        assert_eq!(keys.outer.is_some(), matches!(want, Want::DsseKms { .. }));
        if let Some(outer) = &keys.outer {
            assert_ne!(outer.expose(), keys.inner.expose());
        }
        let (_, again) = vault.seal(&want, BUCKET, KEY).unwrap();
        assert_ne!(
            exposed(&again).0,
            exposed(&keys).0,
            "data keys must be fresh"
        );
    }
}

#[test]
fn an_envelope_tells_head_what_it_shows() {
    let (_dir, vault) = vault();
    let shown = |want: &Want| {
        let (envelope, _) = vault.seal(want, BUCKET, KEY).unwrap();
        let envelope = stored(&envelope);
        (
            envelope.mode(),
            envelope.kms_key_arn().map(str::to_owned),
            envelope.bucket_key(),
            envelope.context().cloned(),
            envelope.customer_key_md5_base64().map(str::to_owned),
        )
    };
    let arn = Some(vault.resolve("alias/aws/s3").unwrap().arn);
    let team = Some(EncryptionContext::from([(
        "team".to_owned(),
        "blue".to_owned(),
    )]));
    let none = Some(EncryptionContext::new());
    assert_eq!(shown(&Want::SseS3), (Mode::SseS3, None, false, None, None));
    assert_eq!(
        shown(&sse_kms(None, false)),
        (Mode::SseKms, arn.clone(), false, team.clone(), None)
    );
    assert_eq!(
        shown(&sse_kms(None, true)),
        (Mode::SseKms, arn.clone(), true, team, None)
    );
    assert_eq!(
        shown(&dsse_kms(None)),
        (Mode::DsseKms, arn, false, none, None)
    );
    let md5 = Some(BASE64.encode(Md5::digest([1; 32])));
    assert_eq!(
        shown(&Want::SseC(customer_key(1))),
        (Mode::SseC, None, false, None, md5)
    );
}

#[test]
fn an_envelope_opens_for_its_own_object_only() {
    let (_dir, vault) = vault();
    for want in every_want() {
        let (envelope, _) = vault.seal(&want, BUCKET, KEY).unwrap();
        for (bucket, key) in [("bucket2", KEY), (BUCKET, "other")] {
            let result = vault.unseal(&envelope, bucket, key, needed(&want));
            assert!(matches!(result, Err(VaultError::Damaged(_))), "{want:?}");
        }
    }
}

#[test]
fn a_changed_envelope_does_not_open() {
    let (_dir, vault) = vault();
    vault.add_key(Some("other")).unwrap();
    let other = vault.resolve("alias/other").unwrap().arn;
    for want in every_want() {
        let (envelope, _) = vault.seal(&want, BUCKET, KEY).unwrap();
        let fields = serde_json::to_value(&envelope).unwrap();
        for field in [
            "inner_key",
            "outer_key",
            "data_key",
            "bucket_key",
            "context",
            "key_arn",
        ] {
            let mut changed = fields.clone();
            let Some(value) = changed.get_mut(field) else {
                continue;
            };
            *value = match (field, value.as_str()) {
                ("context", _) => serde_json::json!({"team": "red"}),
                ("key_arn", _) => other.clone().into(),
                (_, text) => {
                    let mut bytes = BASE64.decode(text.unwrap()).unwrap();
                    bytes[40] ^= 1;
                    BASE64.encode(bytes).into()
                }
            };
            let changed: Envelope = serde_json::from_value(changed).unwrap();
            let result = vault.unseal(&changed, BUCKET, KEY, needed(&want));
            assert!(
                matches!(result, Err(VaultError::Damaged(_))),
                "{want:?} {field}"
            );
        }
    }
}

#[test]
fn the_two_layers_of_dsse_cannot_change_places() {
    let (_dir, vault) = vault();
    let (envelope, _) = vault.seal(&dsse_kms(None), BUCKET, KEY).unwrap();
    let mut fields = serde_json::to_value(&envelope).unwrap();
    let (inner, outer) = (fields["inner_key"].take(), fields["outer_key"].take());
    (fields["inner_key"], fields["outer_key"]) = (outer, inner);
    let swapped: Envelope = serde_json::from_value(fields).unwrap();
    let result = vault.unseal(&swapped, BUCKET, KEY, None);
    assert!(matches!(result, Err(VaultError::Damaged(_))));
}

#[test]
fn a_customer_key_is_needed_exactly_for_sse_c_and_must_be_the_right_one() {
    let (_dir, vault) = vault();
    let (envelope, _) = vault
        .seal(&Want::SseC(customer_key(1)), BUCKET, KEY)
        .unwrap();
    let wrong = customer_key(2);
    assert_refused(
        vault.unseal(&envelope, BUCKET, KEY, None),
        400,
        "InvalidRequest",
    );
    assert_refused(
        vault.unseal(&envelope, BUCKET, KEY, Some(&wrong)),
        403,
        "AccessDenied",
    );
    let (envelope, _) = vault.seal(&Want::SseS3, BUCKET, KEY).unwrap();
    assert_refused(
        vault.unseal(&envelope, BUCKET, KEY, Some(&wrong)),
        400,
        "InvalidRequest",
    );
}

#[test]
fn sse_c_headers_are_checked_as_s3_does() {
    let key = BASE64.encode([9; 32]);
    let md5 = BASE64.encode(Md5::digest([9; 32]));
    let (short, short_md5) = (BASE64.encode([9; 16]), BASE64.encode(Md5::digest([9; 16])));
    let read = CustomerKey::from_headers;
    let aes = Some("AES256");
    let good = read(aes, Some(&key), Some(&md5)).unwrap().unwrap();
    assert_eq!(good.secret().expose(), &[9; 32]);
    assert_eq!(good.md5_base64(), md5);
    assert!(read(None, None, None).unwrap().is_none());
    for (algorithm, key, md5, code) in [
        (
            Some("AES128"),
            Some(&key),
            Some(&md5),
            "InvalidEncryptionAlgorithmError",
        ),
        (None, Some(&key), Some(&md5), "InvalidArgument"),
        (aes, None, Some(&md5), "InvalidArgument"),
        (aes, Some(&key), None, "InvalidArgument"),
        (aes, Some(&key), Some(&short_md5), "InvalidArgument"),
        (aes, Some(&short), Some(&short_md5), "InvalidArgument"),
        (
            aes,
            Some(&"not base64!".to_owned()),
            Some(&md5),
            "InvalidArgument",
        ),
    ] {
        let result = read(algorithm, key.map(String::as_str), md5.map(String::as_str));
        assert_refused(result, 400, code);
    }
}

#[test]
fn a_kms_key_that_is_off_neither_seals_nor_opens() {
    let (_dir, vault) = vault();
    let arn = vault.add_key(Some("mine")).unwrap().arn;
    for want in [
        sse_kms(Some(&arn), false),
        sse_kms(Some(&arn), true),
        dsse_kms(Some("alias/mine")),
    ] {
        let (envelope, keys) = vault.seal(&want, BUCKET, KEY).unwrap();
        for (state, code) in [
            (KeyState::Disabled, "KMS.DisabledException"),
            (KeyState::PendingDeletion, "KMS.KMSInvalidStateException"),
        ] {
            vault.set_key_state(&arn, state).unwrap();
            assert_refused(vault.seal(&want, BUCKET, KEY), 400, code);
            assert_refused(vault.unseal(&envelope, BUCKET, KEY, None), 400, code);
        }
        vault
            .set_key_state("alias/mine", KeyState::Enabled)
            .unwrap();
        let opened = vault.unseal(&envelope, BUCKET, KEY, None).unwrap();
        assert_eq!(exposed(&opened), exposed(&keys));
    }
}

#[test]
fn a_switch_thrown_by_another_process_is_seen_at_once() {
    let (dir, server) = vault();
    let arn = server.add_key(None).unwrap().arn;
    let want = sse_kms(Some(&arn), true);
    server.seal(&want, BUCKET, KEY).unwrap();
    let command = Vault::open(dir.path()).unwrap();
    for _ in 0..50 {
        command.set_key_state(&arn, KeyState::Disabled).unwrap();
        assert_refused(
            server.seal(&want, BUCKET, KEY),
            400,
            "KMS.DisabledException",
        );
        command.set_key_state(&arn, KeyState::Enabled).unwrap();
        server.seal(&want, BUCKET, KEY).unwrap();
    }
}

#[test]
fn a_kms_key_goes_by_its_id_its_arn_its_alias_and_its_alias_arn() {
    let (_dir, vault) = vault();
    let key = vault.add_key(Some("team/blue")).unwrap();
    assert_eq!(
        key.arn,
        format!("arn:aws:kms:us-east-1:000000000000:key/{}", key.id)
    );
    assert_eq!(key.aliases, ["alias/team/blue"]);
    let alias_arn = "arn:aws:kms:us-east-1:000000000000:alias/team/blue";
    for name in [&key.id, &key.arn, "alias/team/blue", alias_arn] {
        assert_eq!(vault.resolve(name).unwrap(), key);
        let (envelope, _) = vault
            .seal(&sse_kms(Some(name), false), BUCKET, KEY)
            .unwrap();
        assert_eq!(envelope.kms_key_arn(), Some(&*key.arn));
    }
    let elsewhere = [
        key.arn.replace("us-east-1", "eu-west-1"),
        key.arn.replace("000000000000", "1"),
    ];
    for name in [
        "team/blue",
        "alias/red",
        "",
        "arn:aws:kms",
        "arn:aws:s3:::bucket",
        &elsewhere[0],
        &elsewhere[1],
        "arn:aws:kms:us-east-1:000000000000:key/alias/team/blue",
        "11111111-2222-4333-8444-555555555555",
    ] {
        assert_refused(vault.resolve(name), 400, "KMS.NotFoundException");
        let want = sse_kms(Some(name), true);
        assert_refused(vault.seal(&want, BUCKET, KEY), 400, "KMS.NotFoundException");
    }
    let error = vault.resolve(&elsewhere[0]).unwrap_err();
    assert_eq!(error.message(), "Invalid arn eu-west-1");
}

#[test]
fn the_keyring_refuses_what_kms_refuses() {
    let (_dir, vault) = vault();
    vault.add_key(Some("mine")).unwrap();
    assert_refused(
        vault.add_key(Some("alias/mine")),
        400,
        "AlreadyExistsException",
    );
    for alias in ["", "alias/", "aws/mine", "sp ace", &"x".repeat(251)] {
        assert_refused(vault.add_key(Some(alias)), 400, "InvalidAliasNameException");
    }
    let managed = vault.set_key_state("alias/aws/s3", KeyState::Disabled);
    assert_refused(managed, 400, "AccessDeniedException");
    let listed = vault.keys().unwrap();
    assert_eq!(listed.len(), 2);
    assert!(listed[0].aws_managed && !listed[1].aws_managed);
    let mut reserved = EncryptionContext::new();
    reserved.insert("aws:s3:arn".to_owned(), "arn:aws:s3:::other/key".to_owned());
    let want = Want::DsseKms {
        key: None,
        context: reserved,
    };
    assert_refused(vault.seal(&want, BUCKET, KEY), 400, "InvalidArgument");
}

#[test]
fn rotation_seals_under_the_new_root_key_and_keeps_the_old_ones() {
    let (dir, vault) = vault();
    let command = Vault::open(dir.path()).unwrap();
    let mut sealed = Vec::new();
    for version in 1..=4 {
        let (envelope, keys) = vault.seal(&Want::SseS3, BUCKET, KEY).unwrap();
        let Sealing::SseS3 { root_version, .. } = envelope.0 else {
            panic!("not SSE-S3: {envelope:?}");
        };
        assert_eq!(root_version, version);
        sealed.push((envelope, keys));
        assert_eq!(command.rotate_root().unwrap(), version + 1);
    }
    for (envelope, keys) in &sealed {
        let opened = vault.unseal(envelope, BUCKET, KEY, None).unwrap();
        assert_eq!(exposed(&opened), exposed(keys));
    }
}

#[test]
fn rewrapping_keeps_the_data_keys_and_drops_the_old_kms_key() {
    let (_dir, vault) = vault();
    let old = vault.add_key(Some("old")).unwrap().arn;
    let new = vault.add_key(Some("new")).unwrap().arn;
    for want in [
        Want::SseS3,
        sse_kms(Some(&old), false),
        sse_kms(Some(&old), true),
    ] {
        for bucket_key in [false, true] {
            let (envelope, keys) = vault.seal(&want, BUCKET, KEY).unwrap();
            let rewrapped = vault
                .rewrap(&envelope, BUCKET, KEY, &new, bucket_key)
                .unwrap();
            vault.set_key_state(&old, KeyState::Disabled).unwrap();
            assert_eq!(rewrapped.mode(), Mode::SseKms);
            assert_eq!(rewrapped.kms_key_arn(), Some(&*new));
            assert_eq!(rewrapped.bucket_key(), bucket_key);
            let none = EncryptionContext::new();
            assert_eq!(
                rewrapped.context(),
                Some(envelope.context().unwrap_or(&none))
            );
            let opened = vault
                .unseal(&stored(&rewrapped), BUCKET, KEY, None)
                .unwrap();
            assert_eq!(exposed(&opened), exposed(&keys));
            vault.set_key_state(&old, KeyState::Enabled).unwrap();
        }
    }
    for want in [dsse_kms(None), Want::SseC(customer_key(1))] {
        let (envelope, _) = vault.seal(&want, BUCKET, KEY).unwrap();
        let result = vault.rewrap(&envelope, BUCKET, KEY, &new, false);
        assert_refused(result, 400, "InvalidRequest");
    }
}

#[test]
fn a_bucket_key_serves_its_bucket_and_no_other() {
    let (_dir, vault) = vault();
    let bucket_key = |bucket: &str, key: &str| {
        let (envelope, _) = vault.seal(&sse_kms(None, true), bucket, key).unwrap();
        serde_json::to_value(&envelope).unwrap()["bucket_key"].clone()
    };
    assert_eq!(bucket_key("one", "a"), bucket_key("one", "b"));
    assert_ne!(bucket_key("one", "a"), bucket_key("two", "a"));
}

#[test]
fn nothing_that_is_changed_at_the_same_time_is_lost() {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let workers: Vec<_> = (0..4)
        .map(|worker| {
            let dir = Arc::clone(&dir);
            thread::spawn(move || {
                let vault = Vault::open(dir.path()).unwrap();
                for n in 0..5 {
                    vault.add_key(Some(&format!("key-{worker}-{n}"))).unwrap();
                    vault.rotate_root().unwrap();
                }
            })
        })
        .collect();
    for worker in workers {
        worker.join().unwrap();
    }
    let vault = Vault::open(dir.path()).unwrap();
    assert_eq!(vault.keys().unwrap().len(), 1 + 4 * 5);
    assert_eq!(vault.rotate_root().unwrap(), 2 + 4 * 5);
}

#[test]
fn key_files_are_private_and_bad_ones_are_refused_by_name() {
    let (dir, vault) = vault();
    vault.rotate_root().unwrap();
    let files =
        ["root.json", "keyring.json", "lock"].map(|name| dir.path().join("keys").join(name));
    #[cfg(unix)]
    for file in &files {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = fs::metadata(file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", file.display());
    }
    let leftovers = fs::read_dir(dir.path().join("keys")).unwrap().count();
    assert_eq!(leftovers, files.len(), "temporary files were left");

    let good = fs::read(&files[0]).unwrap();
    fs::write(&files[0], &good[..good.len() / 2]).unwrap();
    let error = Vault::open(dir.path()).err().unwrap();
    assert!(error.to_string().contains("root.json"), "{error}");
    assert!(!error.message().contains("root.json"));
    fs::remove_file(&files[0]).unwrap();
    assert_refused(Vault::open(dir.path()), 500, "InternalError");
    assert!(
        !files[0].exists(),
        "a new root key would hide that the old one is gone"
    );
    fs::write(&files[0], &good).unwrap();
    Vault::open(dir.path()).unwrap();
}

#[test]
fn no_secret_is_ever_printed_or_stored_in_an_envelope() {
    let (_dir, vault) = vault();
    for want in every_want() {
        let (envelope, keys) = vault.seal(&want, BUCKET, KEY).unwrap();
        let told = format!(
            "{want:?} {envelope:?} {keys:?} {}",
            serde_json::to_string(&envelope).unwrap()
        );
        let mut secrets = vec![keys.inner.expose().to_vec()];
        secrets.extend(exposed(&keys).1);
        secrets.extend(needed(&want).map(|key| key.secret().expose().to_vec()));
        for secret in secrets {
            assert!(!told.contains(&BASE64.encode(&secret)));
            assert!(!told.contains(&format!("{secret:?}")));
        }
    }
}

/// Envelopes and key files that are on somebody's disk must stay readable.
#[test]
fn the_formats_stay_readable() {
    let kept: serde_json::Value = serde_json::from_str(include_str!("kept.json")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("keys")).unwrap();
    for (file, content) in [
        ("root.json", &kept["root"]),
        ("keyring.json", &kept["keyring"]),
    ] {
        fs::write(dir.path().join("keys").join(file), content.to_string()).unwrap();
    }
    let vault = Vault::open(dir.path()).unwrap();
    let envelopes: Vec<Envelope> = serde_json::from_value(kept["envelopes"].clone()).unwrap();
    let modes: Vec<Mode> = envelopes.iter().map(Envelope::mode).collect();
    assert_eq!(
        modes,
        [Mode::SseS3, Mode::SseKms, Mode::DsseKms, Mode::SseC]
    );
    for envelope in &envelopes {
        let customer_key = (envelope.mode() == Mode::SseC).then(|| customer_key(1));
        vault
            .unseal(envelope, BUCKET, KEY, customer_key.as_ref())
            .unwrap();
    }
}
