//! ACLs of buckets and objects, and the ownership controls that switch them off.
//!
//! ACLs are stored and given back; they let nobody in, since there is one account and no anonymous access.

use hyper::{HeaderMap, StatusCode};
use s3s::dto::{
    self, DeleteBucketOwnershipControlsInput, DeleteBucketOwnershipControlsOutput,
    GetBucketAclInput, GetBucketAclOutput, GetBucketOwnershipControlsInput,
    GetBucketOwnershipControlsOutput, GetObjectAclInput, GetObjectAclOutput, PutBucketAclInput,
    PutBucketAclOutput, PutBucketOwnershipControlsInput, PutBucketOwnershipControlsOutput,
    PutObjectAclInput, PutObjectAclOutput,
};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};

use super::{OWNER_ID, OWNER_NAME, Service, blocking, object_version};
use crate::local_s3::error::with_detail;
use crate::local_s3::model::{Acl, Bucket, Grant, Grantee, Ownership, Permission};

/// Grants of one ACL. Source: S3 User Guide, "Access control list (ACL) overview".
const GRANTS_MAX: usize = 100;

/// The headers that grant, and what.
const GRANT_HEADERS: [(&str, Permission); 5] = [
    ("x-amz-grant-full-control", Permission::FullControl),
    ("x-amz-grant-read", Permission::Read),
    ("x-amz-grant-write", Permission::Write),
    ("x-amz-grant-read-acp", Permission::ReadAcp),
    ("x-amz-grant-write-acp", Permission::WriteAcp),
];

/// The ACL of a new object, from `x-amz-acl` or the grant headers; private without any.
///
/// # Errors
/// 400 AccessControlListNotSupported when ACLs are disabled and the headers ask for more than the bucket's
/// owner, 400 InvalidArgument or InvalidRequest for headers that make no sense.
pub(super) fn of_new_object(headers: &HeaderMap, bucket: &Bucket) -> S3Result<Acl> {
    let asked = from_headers(headers)?;
    if let Some((acl, canned)) = &asked
        && bucket.acls_disabled()
    {
        allow_owner_only(acl, canned.as_deref())?;
    }
    Ok(asked.map_or_else(Acl::private, |(acl, _)| acl))
}

/// The ACL that a request's headers ask for, with the canned name if it is one.
pub(super) fn from_headers(headers: &HeaderMap) -> S3Result<Option<(Acl, Option<String>)>> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let mut grants = Vec::new();
    for (name, permission) in GRANT_HEADERS {
        for grantee in header(name).into_iter().flat_map(|value| value.split(',')) {
            let grantee = parse_grantee(grantee.trim())?;
            grants.push(Grant {
                grantee,
                permission,
            });
        }
    }
    match header("x-amz-acl") {
        Some(_) if !grants.is_empty() => Err(s3_error!(
            InvalidRequest,
            "Specifying both Canned ACLs and Header Grants is not allowed"
        )),
        Some(name) => match Acl::canned(name) {
            Some(acl) => Ok(Some((acl, Some(name.to_owned())))),
            None => {
                let error = with_detail(s3_error!(InvalidArgument), "ArgumentName", "x-amz-acl");
                Err(with_detail(error, "ArgumentValue", name))
            }
        },
        None if grants.is_empty() => Ok(None),
        None => Ok(Some((Acl { grants }, None))),
    }
}

/// `id="…"` or `uri="…"`.
fn parse_grantee(text: &str) -> S3Result<Grantee> {
    let (kind, value) = text.split_once('=').unwrap_or(("", text));
    let value = value.trim().trim_matches('"');
    match kind.trim() {
        "id" if value == OWNER_ID => Ok(Grantee::Owner),
        "id" if is_canonical_id(value) => Ok(Grantee::Canonical(value.to_owned())),
        "id" => Err(invalid_id(value)),
        "uri" if is_group(value) => Ok(Grantee::Group(value.to_owned())),
        "uri" => Err(s3_error!(InvalidArgument, "Invalid group uri")),
        "emailAddress" => Err(unresolvable_email(value)),
        _ => Err(s3_error!(InvalidArgument, "Argument format not recognized")),
    }
}

fn is_canonical_id(id: &str) -> bool {
    id.len() == OWNER_ID.len() && id.bytes().all(|b| b.is_ascii_hexdigit())
}

fn is_group(uri: &str) -> bool {
    use crate::local_s3::model::{ALL_USERS, AUTHENTICATED_USERS, LOG_DELIVERY};
    [ALL_USERS, AUTHENTICATED_USERS, LOG_DELIVERY].contains(&uri)
}

fn invalid_id(id: &str) -> S3Error {
    let error = s3_error!(InvalidArgument, "Invalid id");
    let error = with_detail(error, "ArgumentName", "CanonicalUser/ID");
    with_detail(error, "ArgumentValue", id)
}

fn unresolvable_email(address: &str) -> S3Error {
    let code = S3ErrorCode::UnresolvableGrantByEmailAddress;
    let message = "The e-mail address you provided does not match any account on record.";
    with_detail(
        S3Error::with_message(code, message),
        "emailAddress",
        address,
    )
}

fn not_supported() -> S3Error {
    let code = S3ErrorCode::AccessControlListNotSupported;
    S3Error::with_message(code, "The bucket does not allow ACLs")
}

/// While ACLs are disabled, only what says nothing new is accepted: the bucket's owner has full control.
fn allow_owner_only(acl: &Acl, canned: Option<&str>) -> S3Result {
    let says_owner = match canned {
        Some(name) => name == "bucket-owner-full-control",
        None => *acl == Acl::private(),
    };
    if says_owner {
        Ok(())
    } else {
        Err(not_supported())
    }
}

pub(super) fn owner() -> dto::Owner {
    dto::Owner {
        display_name: Some(OWNER_NAME.to_owned()),
        id: Some(OWNER_ID.to_owned()),
    }
}

fn to_dto(acl: &Acl) -> dto::Grants {
    let grantee = |grantee: &Grantee| {
        let (kind, id, display_name, uri) = match grantee {
            Grantee::Owner => (
                dto::Type::CANONICAL_USER,
                Some(OWNER_ID.to_owned()),
                Some(OWNER_NAME.to_owned()),
                None,
            ),
            Grantee::Canonical(id) => (dto::Type::CANONICAL_USER, Some(id.clone()), None, None),
            Grantee::Group(uri) => (dto::Type::GROUP, None, None, Some(uri.clone())),
        };
        dto::Grantee {
            display_name,
            email_address: None,
            id,
            type_: dto::Type::from_static(kind),
            uri,
        }
    };
    acl.grants
        .iter()
        .map(|grant| dto::Grant {
            grantee: Some(grantee(&grant.grantee)),
            permission: Some(dto::Permission::from_static(permission_name(
                grant.permission,
            ))),
        })
        .collect()
}

fn permission_name(permission: Permission) -> &'static str {
    match permission {
        Permission::FullControl => dto::Permission::FULL_CONTROL,
        Permission::Read => dto::Permission::READ,
        Permission::Write => dto::Permission::WRITE,
        Permission::ReadAcp => dto::Permission::READ_ACP,
        Permission::WriteAcp => dto::Permission::WRITE_ACP,
    }
}

fn from_dto(policy: dto::AccessControlPolicy) -> S3Result<Acl> {
    let malformed = || S3Error::new(S3ErrorCode::MalformedACLError);
    let owner = policy.owner.and_then(|owner| owner.id);
    let owner = owner.ok_or_else(malformed)?;
    if owner != OWNER_ID {
        return Err(s3_error!(AccessDenied, "Access Denied"));
    }
    let grants = policy.grants.ok_or_else(malformed)?;
    if grants.len() > GRANTS_MAX {
        return Err(malformed());
    }
    let permissions = [
        Permission::FullControl,
        Permission::Read,
        Permission::Write,
        Permission::ReadAcp,
        Permission::WriteAcp,
    ];
    let grant = |grant: dto::Grant| {
        let name = grant.permission.ok_or_else(malformed)?;
        let permission = permissions
            .into_iter()
            .find(|p| permission_name(*p) == name.as_str())
            .ok_or_else(malformed)?;
        let grantee = grant.grantee.ok_or_else(malformed)?;
        let grantee = match (grantee.id, grantee.uri, grantee.email_address) {
            (Some(id), None, None) if id == OWNER_ID => Grantee::Owner,
            (Some(id), None, None) if is_canonical_id(&id) => Grantee::Canonical(id),
            (Some(id), None, None) => return Err(invalid_id(&id)),
            (None, Some(uri), None) if is_group(&uri) => Grantee::Group(uri),
            (None, Some(_), None) => {
                return Err(s3_error!(InvalidArgument, "Invalid group uri"));
            }
            (None, None, Some(address)) => return Err(unresolvable_email(&address)),
            _ => return Err(malformed()),
        };
        Ok(Grant {
            grantee,
            permission,
        })
    };
    let grants = grants.into_iter().map(grant).collect::<S3Result<_>>()?;
    Ok(Acl { grants })
}

/// The ACL that a PUT of an ACL asks for: by headers or by body, not both and not neither.
fn wanted(
    headers: &HeaderMap,
    policy: Option<dto::AccessControlPolicy>,
) -> S3Result<(Acl, Option<String>)> {
    match (from_headers(headers)?, policy) {
        (Some(_), Some(_)) => Err(s3_error!(
            UnexpectedContent,
            "This request does not support content"
        )),
        (Some(asked), None) => Ok(asked),
        (None, Some(policy)) => Ok((from_dto(policy)?, None)),
        (None, None) => {
            let code = S3ErrorCode::MissingSecurityHeader;
            let message = "Your request was missing a required header";
            let error = S3Error::with_message(code, message);
            Err(with_detail(error, "MissingHeaderName", "x-amz-acl"))
        }
    }
}

pub(super) async fn get_object_acl(
    service: &Service,
    request: S3Request<GetObjectAclInput>,
) -> S3Result<S3Response<GetObjectAclOutput>> {
    let input = request.input;
    let bucket = service.bucket(&input.bucket)?;
    let version_id = object_version::parse_version_id(input.version_id.as_deref())?;
    let version = object_version::find(&bucket, &input.key, version_id.as_ref())?;
    let config = bucket.config();
    let acl = version.object().map(|object| &object.properties.acl);
    let grants = match acl.filter(|_| !config.acls_disabled()) {
        Some(acl) => to_dto(acl),
        None => to_dto(&Acl::private()),
    };
    let output = GetObjectAclOutput {
        grants: Some(grants),
        owner: Some(owner()),
        ..Default::default()
    };
    Ok(S3Response::new(output))
}

pub(super) async fn put_object_acl(
    service: &Service,
    request: S3Request<PutObjectAclInput>,
) -> S3Result<S3Response<PutObjectAclOutput>> {
    let input = request.input;
    let bucket = service.bucket(&input.bucket)?;
    let version_id = object_version::parse_version_id(input.version_id.as_deref())?;
    let (acl, canned) = wanted(&request.headers, input.access_control_policy)?;
    if bucket.config().acls_disabled() {
        allow_owner_only(&acl, canned.as_deref())?;
    }
    blocking(move || {
        object_version::change(&bucket, &input.key, version_id.as_ref(), |object| {
            object.properties.acl = acl;
            Ok(())
        })
    })
    .await?;
    Ok(S3Response::new(PutObjectAclOutput::default()))
}

pub(super) async fn get_bucket_acl(
    service: &Service,
    request: S3Request<GetBucketAclInput>,
) -> S3Result<S3Response<GetBucketAclOutput>> {
    let config = service.bucket(&request.input.bucket)?.config();
    let grants = match config.acls_disabled() {
        true => to_dto(&Acl::private()),
        false => to_dto(&config.acl),
    };
    Ok(S3Response::new(GetBucketAclOutput {
        grants: Some(grants),
        owner: Some(owner()),
    }))
}

pub(super) async fn put_bucket_acl(
    service: &Service,
    request: S3Request<PutBucketAclInput>,
) -> S3Result<S3Response<PutBucketAclOutput>> {
    let input = request.input;
    let (acl, canned) = wanted(&request.headers, input.access_control_policy)?;
    service
        .change_bucket(&input.bucket, move |bucket| {
            if bucket.acls_disabled() {
                allow_owner_only(&acl, canned.as_deref())?;
            }
            bucket.acl = acl;
            Ok(())
        })
        .await?;
    Ok(S3Response::new(PutBucketAclOutput::default()))
}

const OWNERSHIPS: [(&str, Ownership); 3] = [
    (
        dto::ObjectOwnership::BUCKET_OWNER_ENFORCED,
        Ownership::BucketOwnerEnforced,
    ),
    (
        dto::ObjectOwnership::BUCKET_OWNER_PREFERRED,
        Ownership::BucketOwnerPreferred,
    ),
    (dto::ObjectOwnership::OBJECT_WRITER, Ownership::ObjectWriter),
];

pub(super) async fn get_bucket_ownership_controls(
    service: &Service,
    request: S3Request<GetBucketOwnershipControlsInput>,
) -> S3Result<S3Response<GetBucketOwnershipControlsOutput>> {
    let config = service.bucket(&request.input.bucket)?.config();
    let name = OWNERSHIPS
        .into_iter()
        .find(|(_, ownership)| Some(*ownership) == config.ownership)
        .map(|(name, _)| name);
    let Some(name) = name else {
        let code = S3ErrorCode::OwnershipControlsNotFoundError;
        let message = "The bucket ownership controls were not found";
        return Err(S3Error::with_message(code, message));
    };
    let rule = dto::OwnershipControlsRule {
        object_ownership: dto::ObjectOwnership::from_static(name),
    };
    Ok(S3Response::new(GetBucketOwnershipControlsOutput {
        ownership_controls: Some(dto::OwnershipControls { rules: vec![rule] }),
    }))
}

pub(super) async fn put_bucket_ownership_controls(
    service: &Service,
    request: S3Request<PutBucketOwnershipControlsInput>,
) -> S3Result<S3Response<PutBucketOwnershipControlsOutput>> {
    let input = request.input;
    let [rule] = &input.ownership_controls.rules[..] else {
        return Err(s3_error!(MalformedXML));
    };
    let asked = rule.object_ownership.as_str();
    let ownership = OWNERSHIPS.into_iter().find(|(name, _)| *name == asked);
    let (_, ownership) = ownership.ok_or_else(|| s3_error!(MalformedXML))?;
    service
        .change_bucket(&input.bucket, move |bucket| {
            if ownership == Ownership::BucketOwnerEnforced && bucket.acl != Acl::private() {
                let code = S3ErrorCode::InvalidBucketAclWithObjectOwnership;
                let message = "Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced setting";
                return Err(S3Error::with_message(code, message));
            }
            bucket.ownership = Some(ownership);
            Ok(())
        })
        .await?;
    Ok(S3Response::new(PutBucketOwnershipControlsOutput::default()))
}

pub(super) async fn delete_bucket_ownership_controls(
    service: &Service,
    request: S3Request<DeleteBucketOwnershipControlsInput>,
) -> S3Result<S3Response<DeleteBucketOwnershipControlsOutput>> {
    service
        .change_bucket(&request.input.bucket, |bucket| {
            bucket.ownership = None;
            Ok(())
        })
        .await?;
    let output = DeleteBucketOwnershipControlsOutput::default();
    Ok(S3Response::with_status(output, StatusCode::NO_CONTENT))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::{HeaderName, HeaderValue};

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            let value = HeaderValue::from_str(value).unwrap();
            (HeaderName::from_static(name), value)
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn a_bucket_without_acls_takes_only_what_says_nothing_new() {
        let own = format!("id=\"{OWNER_ID}\"");
        let stranger = format!("id={}", "0".repeat(64));
        let group = "uri=http://acs.amazonaws.com/groups/global/AllUsers";
        let (acl, full) = ("x-amz-acl", "x-amz-grant-full-control");
        let mut bucket = Bucket::new("b", "us-east-1");
        // The headers, and the codes with ACLs disabled and enabled.
        type Row<'a> = (&'a [(&'static str, &'a str)], &'static str, &'static str);
        let table: &[Row<'_>] = &[
            (&[], "", ""),
            (&[(acl, "bucket-owner-full-control")], "", ""),
            (&[(full, &own)], "", ""),
            (&[(acl, "private")], "AccessControlListNotSupported", ""),
            (&[(acl, "public-read")], "AccessControlListNotSupported", ""),
            (&[(full, &stranger)], "AccessControlListNotSupported", ""),
            (&[(acl, "mine")], "InvalidArgument", "InvalidArgument"),
            (&[(full, "id=1")], "InvalidArgument", "InvalidArgument"),
            (
                &[(acl, "private"), (full, &own)],
                "InvalidRequest",
                "InvalidRequest",
            ),
            (
                &[("x-amz-grant-read", group)],
                "AccessControlListNotSupported",
                "",
            ),
        ];
        let told = |result: S3Result<Acl>| match result {
            Ok(_) => String::new(),
            Err(error) => error.code().as_str().to_owned(),
        };
        for (pairs, disabled, enabled) in table {
            bucket.ownership = Some(Ownership::BucketOwnerEnforced);
            assert_eq!(told(of_new_object(&headers(pairs), &bucket)), *disabled);
            bucket.ownership = Some(Ownership::ObjectWriter);
            assert_eq!(told(of_new_object(&headers(pairs), &bucket)), *enabled);
        }
    }

    #[test]
    fn an_acl_survives_the_way_out_and_in() {
        let acl = Acl::canned("public-read-write").unwrap();
        let policy = dto::AccessControlPolicy {
            grants: Some(to_dto(&acl)),
            owner: Some(owner()),
        };
        assert_eq!(from_dto(policy).unwrap(), acl);
    }
}
