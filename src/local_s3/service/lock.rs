//! Object Lock: retention, legal hold, the bucket's default.
//!
//! Source: S3 User Guide, "Locking objects with Object Lock". There is one account, which may bypass
//! governance when it says so.

use hyper::HeaderMap;
use s3s::dto::{
    self, GetObjectLegalHoldInput, GetObjectLegalHoldOutput, GetObjectLockConfigurationInput,
    GetObjectLockConfigurationOutput, GetObjectRetentionInput, GetObjectRetentionOutput,
    PutObjectLegalHoldInput, PutObjectLegalHoldOutput, PutObjectLockConfigurationInput,
    PutObjectLockConfigurationOutput, PutObjectRetentionInput, PutObjectRetentionOutput,
    TimestampFormat,
};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};
use time::OffsetDateTime;

use super::{Service, blocking, object_version};
use crate::local_s3::error::with_detail;
use crate::local_s3::model::{
    Bucket, DefaultRetention, Lock, Moment, ObjectLock, Retention, RetentionMode, RetentionPeriod,
    Version, Versioning,
};

/// Source: S3 API, DefaultRetention.
const DAYS_MAX: u32 = 36_500;
const YEARS_MAX: u32 = 100;
const MILLIS_PER_DAY: i64 = 86_400_000;
const DAYS_PER_YEAR: u32 = 365;

/// The lock of a new object version: what the request's headers ask for, else the bucket's default.
///
/// # Errors
/// 400 InvalidRequest when the bucket has no Object Lock, 400 InvalidArgument for headers that make no sense.
pub(super) fn of_new_object(headers: &HeaderMap, bucket: &Bucket, now: Moment) -> S3Result<Lock> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let mode = header("x-amz-object-lock-mode");
    let until = header("x-amz-object-lock-retain-until-date");
    let legal_hold = header("x-amz-object-lock-legal-hold");
    let Some(lock) = &bucket.object_lock else {
        if mode.is_some() || until.is_some() || legal_hold.is_some() {
            return Err(no_object_lock());
        }
        return Ok(Lock::default());
    };
    let retention = match (mode, until) {
        (None, None) => lock.default_retention.map(|default| Retention {
            mode: default.mode,
            until: default_end(default.period, now),
        }),
        (Some(mode), Some(until)) => {
            let mode = RetentionMode::parse(mode)
                .ok_or_else(|| invalid_argument("Unknown wormMode directive.", mode))?;
            let date = dto::Timestamp::parse(TimestampFormat::DateTime, until).map_err(|_| {
                invalid_argument(
                    "The retain until date must be provided in ISO 8601 format",
                    until,
                )
            })?;
            Some(future_retention(mode, date.into(), now)?)
        }
        _ => {
            return Err(s3_error!(
                InvalidArgument,
                "x-amz-object-lock-retain-until-date and x-amz-object-lock-mode must both be supplied"
            ));
        }
    };
    let legal_hold = match legal_hold {
        None => None,
        Some("ON") => Some(true),
        Some("OFF") => Some(false),
        Some(other) => {
            return Err(invalid_argument(
                "Legal Hold must be either of 'ON' or 'OFF'",
                other,
            ));
        }
    };
    Ok(Lock {
        retention,
        legal_hold,
    })
}

/// Whether the lock keeps its version from being deleted or re-encrypted now. `bypass` lifts
/// governance, and nothing else.
pub(super) fn protects(lock: &Lock, now: Moment, bypass: bool) -> bool {
    let retained = lock.retention.is_some_and(|retention| {
        retention.until > now && !(bypass && retention.mode == RetentionMode::Governance)
    });
    retained || lock.legal_hold == Some(true)
}

/// Allows the removal of one version for good. Delete markers are never locked.
///
/// # Errors
/// 403 AccessDenied.
pub(super) fn check_removable(version: &Version, bypass: bool) -> S3Result {
    match version.object() {
        Some(object) if protects(&object.properties.lock, Moment::now(), bypass) => Err(s3_error!(
            AccessDenied,
            "Access Denied because object protected by object lock."
        )),
        _ => Ok(()),
    }
}

fn default_end(period: RetentionPeriod, now: Moment) -> Moment {
    let days = match period {
        RetentionPeriod::Days(days) => days,
        RetentionPeriod::Years(years) => years * DAYS_PER_YEAR,
    };
    let start = now.whole_second();
    Moment::from(start + time::Duration::milliseconds(i64::from(days) * MILLIS_PER_DAY))
}

fn future_retention(
    mode: RetentionMode,
    until: OffsetDateTime,
    now: Moment,
) -> S3Result<Retention> {
    let until = Moment::from(until);
    if until <= now {
        return Err(s3_error!(
            InvalidArgument,
            "The retain until date must be in the future!"
        ));
    }
    Ok(Retention { mode, until })
}

fn invalid_argument(message: &'static str, value: &str) -> S3Error {
    let error = S3Error::with_message(S3ErrorCode::InvalidArgument, message);
    with_detail(error, "ArgumentValue", value)
}

fn no_object_lock() -> S3Error {
    s3_error!(
        InvalidRequest,
        "Bucket is missing Object Lock Configuration"
    )
}

fn require_object_lock(bucket: &Bucket) -> S3Result {
    match bucket.object_lock {
        Some(_) => Ok(()),
        None => Err(no_object_lock()),
    }
}

pub(super) async fn get_object_retention(
    service: &Service,
    request: S3Request<GetObjectRetentionInput>,
) -> S3Result<S3Response<GetObjectRetentionOutput>> {
    let input = request.input;
    let bucket = service.bucket(&input.bucket)?;
    require_object_lock(&bucket.config())?;
    let version_id = object_version::parse_version_id(input.version_id.as_deref())?;
    let version = object_version::find(&bucket, &input.key, version_id.as_ref())?;
    let retention = version.object().and_then(|o| o.properties.lock.retention);
    let retention = retention.ok_or_else(no_lock_on_object)?;
    Ok(S3Response::new(GetObjectRetentionOutput {
        retention: Some(dto::ObjectLockRetention {
            mode: Some(dto::ObjectLockRetentionMode::from_static(
                retention.mode.as_str(),
            )),
            retain_until_date: Some(retention.until.whole_second().into()),
        }),
    }))
}

pub(super) async fn put_object_retention(
    service: &Service,
    request: S3Request<PutObjectRetentionInput>,
) -> S3Result<S3Response<PutObjectRetentionOutput>> {
    let input = request.input;
    let bucket = service.bucket(&input.bucket)?;
    require_object_lock(&bucket.config())?;
    let version_id = object_version::parse_version_id(input.version_id.as_deref())?;
    let wanted = match input.retention {
        None => None,
        Some(retention) => wanted_retention(retention)?,
    };
    let bypass = input.bypass_governance_retention == Some(true);
    blocking(move || {
        object_version::change(&bucket, &input.key, version_id.as_ref(), |object| {
            let lock = &mut object.properties.lock;
            if weakens(lock.retention, wanted, bypass) {
                return Err(s3_error!(
                    AccessDenied,
                    "Access Denied because object protected by object lock."
                ));
            }
            lock.retention = wanted;
            Ok(())
        })
    })
    .await?;
    Ok(S3Response::new(PutObjectRetentionOutput::default()))
}

/// An empty `<Retention/>` takes the retention away.
fn wanted_retention(retention: dto::ObjectLockRetention) -> S3Result<Option<Retention>> {
    match (retention.mode, retention.retain_until_date) {
        (None, None) => Ok(None),
        (Some(mode), Some(until)) => {
            let mode =
                RetentionMode::parse(mode.as_str()).ok_or_else(|| s3_error!(MalformedXML))?;
            future_retention(mode, until.into(), Moment::now()).map(Some)
        }
        _ => Err(s3_error!(MalformedXML)),
    }
}

/// Whether the change would let go of a version earlier or more easily than what holds now.
fn weakens(now: Option<Retention>, wanted: Option<Retention>, bypass: bool) -> bool {
    let Some(now) = now.filter(|retention| retention.until > Moment::now()) else {
        return false;
    };
    let shorter = wanted.is_none_or(|wanted| wanted.until < now.until);
    let changes_mode = wanted.is_none_or(|wanted| wanted.mode != now.mode);
    match now.mode {
        RetentionMode::Compliance => shorter || changes_mode,
        RetentionMode::Governance => (shorter || changes_mode) && !bypass,
    }
}

pub(super) async fn get_object_legal_hold(
    service: &Service,
    request: S3Request<GetObjectLegalHoldInput>,
) -> S3Result<S3Response<GetObjectLegalHoldOutput>> {
    let input = request.input;
    let bucket = service.bucket(&input.bucket)?;
    require_object_lock(&bucket.config())?;
    let version_id = object_version::parse_version_id(input.version_id.as_deref())?;
    let version = object_version::find(&bucket, &input.key, version_id.as_ref())?;
    let hold = version.object().and_then(|o| o.properties.lock.legal_hold);
    let hold = hold.ok_or_else(no_lock_on_object)?;
    let status = dto::ObjectLockLegalHoldStatus::from_static(if hold { "ON" } else { "OFF" });
    Ok(S3Response::new(GetObjectLegalHoldOutput {
        legal_hold: Some(dto::ObjectLockLegalHold {
            status: Some(status),
        }),
    }))
}

pub(super) async fn put_object_legal_hold(
    service: &Service,
    request: S3Request<PutObjectLegalHoldInput>,
) -> S3Result<S3Response<PutObjectLegalHoldOutput>> {
    let input = request.input;
    let bucket = service.bucket(&input.bucket)?;
    require_object_lock(&bucket.config())?;
    let version_id = object_version::parse_version_id(input.version_id.as_deref())?;
    let status = input.legal_hold.and_then(|hold| hold.status);
    let hold = match status.as_ref().map(dto::ObjectLockLegalHoldStatus::as_str) {
        Some("ON") => true,
        Some("OFF") => false,
        _ => return Err(s3_error!(MalformedXML)),
    };
    blocking(move || {
        object_version::change(&bucket, &input.key, version_id.as_ref(), |object| {
            object.properties.lock.legal_hold = Some(hold);
            Ok(())
        })
    })
    .await?;
    Ok(S3Response::new(PutObjectLegalHoldOutput::default()))
}

fn no_lock_on_object() -> S3Error {
    let code = S3ErrorCode::NoSuchObjectLockConfiguration;
    let message = "The specified object does not have a ObjectLock configuration";
    S3Error::with_message(code, message)
}

pub(super) async fn get_object_lock_configuration(
    service: &Service,
    request: S3Request<GetObjectLockConfigurationInput>,
) -> S3Result<S3Response<GetObjectLockConfigurationOutput>> {
    let config = service.bucket(&request.input.bucket)?.config();
    let Some(lock) = &config.object_lock else {
        let code = S3ErrorCode::ObjectLockConfigurationNotFoundError;
        let message = "Object Lock configuration does not exist for this bucket";
        return Err(S3Error::with_message(code, message));
    };
    let rule = lock.default_retention.map(|default| {
        let count = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
        let (days, years) = match default.period {
            RetentionPeriod::Days(days) => (Some(count(days)), None),
            RetentionPeriod::Years(years) => (None, Some(count(years))),
        };
        let mode = dto::ObjectLockRetentionMode::from_static(default.mode.as_str());
        dto::ObjectLockRule {
            default_retention: Some(dto::DefaultRetention {
                days,
                mode: Some(mode),
                years,
            }),
        }
    });
    let enabled = dto::ObjectLockEnabled::from_static(dto::ObjectLockEnabled::ENABLED);
    Ok(S3Response::new(GetObjectLockConfigurationOutput {
        object_lock_configuration: Some(dto::ObjectLockConfiguration {
            object_lock_enabled: Some(enabled),
            rule,
        }),
    }))
}

pub(super) async fn put_object_lock_configuration(
    service: &Service,
    request: S3Request<PutObjectLockConfigurationInput>,
) -> S3Result<S3Response<PutObjectLockConfigurationOutput>> {
    let input = request.input;
    let wanted = input
        .object_lock_configuration
        .ok_or_else(|| s3_error!(MalformedXML))?;
    let enabled = wanted.object_lock_enabled.as_ref();
    if enabled.map(dto::ObjectLockEnabled::as_str) != Some(dto::ObjectLockEnabled::ENABLED) {
        return Err(s3_error!(MalformedXML));
    }
    let default_retention = wanted.rule.map(wanted_default).transpose()?;
    service
        .change_bucket(&input.bucket, move |bucket| {
            if bucket.versioning != Versioning::Enabled {
                return Err(s3_error!(
                    InvalidBucketState,
                    "Versioning must be 'Enabled' on the bucket to apply a Object Lock configuration"
                ));
            }
            bucket.object_lock = Some(ObjectLock { default_retention });
            Ok(())
        })
        .await?;
    Ok(S3Response::new(PutObjectLockConfigurationOutput::default()))
}

fn wanted_default(rule: dto::ObjectLockRule) -> S3Result<DefaultRetention> {
    let malformed = || s3_error!(MalformedXML);
    let default = rule.default_retention.ok_or_else(malformed)?;
    let mode = default.mode.as_ref().map(|mode| mode.as_str());
    let mode = mode.and_then(RetentionMode::parse).ok_or_else(malformed)?;
    let period = |given: i32, max: u32| match u32::try_from(given) {
        Ok(0) | Err(_) => Err(s3_error!(
            InvalidArgument,
            "Default retention period must be a positive integer value"
        )),
        Ok(given) if given > max => Err(s3_error!(
            InvalidArgument,
            "Default retention period too large"
        )),
        Ok(given) => Ok(given),
    };
    let period = match (default.days, default.years) {
        (Some(days), None) => RetentionPeriod::Days(period(days, DAYS_MAX)?),
        (None, Some(years)) => RetentionPeriod::Years(period(years, YEARS_MAX)?),
        _ => return Err(malformed()),
    };
    Ok(DefaultRetention { mode, period })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::{HeaderName, HeaderValue};
    use time::macros::datetime;

    const NOW: OffsetDateTime = datetime!(2026-05-05 05:05:05 UTC);

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            let name = HeaderName::try_from(format!("x-amz-object-lock-{name}")).unwrap();
            (name, HeaderValue::from_static(value))
        };
        pairs.iter().map(pair).collect()
    }

    fn locked_bucket(default: Option<RetentionPeriod>) -> Bucket {
        let mut bucket = Bucket::new("b", "us-east-1");
        let default_retention = default.map(|period| DefaultRetention {
            mode: RetentionMode::Governance,
            period,
        });
        bucket.object_lock = Some(ObjectLock { default_retention });
        bucket
    }

    #[test]
    fn a_new_object_gets_what_it_asks_for_or_the_default() {
        let now = Moment::from(NOW);
        let bucket = locked_bucket(Some(RetentionPeriod::Days(2)));
        let lock = of_new_object(&HeaderMap::new(), &bucket, now).unwrap();
        let retention = lock.retention.unwrap();
        assert_eq!(
            retention.until,
            Moment::from(datetime!(2026-05-07 05:05:05 UTC))
        );
        assert_eq!(lock.legal_hold, None);

        let asked = headers(&[
            ("mode", "COMPLIANCE"),
            ("retain-until-date", "2027-01-01T00:00:00Z"),
            ("legal-hold", "ON"),
        ]);
        let lock = of_new_object(&asked, &bucket, now).unwrap();
        let retention = lock.retention.unwrap();
        assert_eq!(retention.mode, RetentionMode::Compliance);
        assert_eq!(
            retention.until,
            Moment::from(datetime!(2027-01-01 00:00 UTC))
        );
        assert_eq!(lock.legal_hold, Some(true));
    }

    #[test]
    fn headers_that_make_no_sense_are_refused() {
        type Row = (bool, &'static [(&'static str, &'static str)], &'static str);
        let table: &[Row] = &[
            (false, &[("legal-hold", "OFF")], "InvalidRequest"),
            (true, &[("legal-hold", "on")], "InvalidArgument"),
            (true, &[("mode", "GOVERNANCE")], "InvalidArgument"),
            (
                true,
                &[
                    ("mode", "GOVERNANCE"),
                    ("retain-until-date", "2026-05-05T05:05:05Z"),
                ],
                "InvalidArgument",
            ),
            (
                true,
                &[
                    ("mode", "governance"),
                    ("retain-until-date", "2027-01-01T00:00:00Z"),
                ],
                "InvalidArgument",
            ),
        ];
        for (has_lock, pairs, code) in table {
            let bucket = match has_lock {
                true => locked_bucket(None),
                false => Bucket::new("b", "us-east-1"),
            };
            let error = of_new_object(&headers(pairs), &bucket, Moment::from(NOW)).unwrap_err();
            assert_eq!(error.code().as_str(), *code, "{pairs:?}");
        }
    }

    #[test]
    fn who_may_let_go_of_a_version() {
        let (now, later) = (
            Moment::from(NOW),
            Moment::from(datetime!(2026-06-01 00:00 UTC)),
        );
        let retained = |mode, until| Lock {
            retention: Some(Retention { mode, until }),
            legal_hold: None,
        };
        let governance = retained(RetentionMode::Governance, later);
        let compliance = retained(RetentionMode::Compliance, later);
        let over = retained(RetentionMode::Compliance, now);
        let held = Lock {
            retention: None,
            legal_hold: Some(true),
        };
        let told = |lock: Lock| (protects(&lock, now, false), protects(&lock, now, true));
        assert_eq!(told(Lock::default()), (false, false));
        assert_eq!(told(over), (false, false));
        assert_eq!(told(governance), (true, false));
        assert_eq!(told(compliance), (true, true));
        assert_eq!(told(held), (true, true));
    }
}
