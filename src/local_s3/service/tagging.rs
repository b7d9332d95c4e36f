//! Tags of objects and buckets.
//!
//! Source of limits and texts: S3 User Guide, "Categorizing your objects using tags".

use s3s::dto::{
    self, DeleteBucketTaggingInput, DeleteBucketTaggingOutput, DeleteObjectTaggingInput,
    DeleteObjectTaggingOutput, GetBucketTaggingInput, GetBucketTaggingOutput,
    GetObjectTaggingInput, GetObjectTaggingOutput, PutBucketTaggingInput, PutBucketTaggingOutput,
    PutObjectTaggingInput, PutObjectTaggingOutput,
};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};

use super::properties::form_decoded;
use super::{Service, blocking, object_version};
use crate::local_s3::error::with_detail;
use crate::local_s3::model::Tag;

/// Tags of one object.
const OBJECT_TAGS_MAX: usize = 10;
/// Tags of one bucket.
const BUCKET_TAGS_MAX: usize = 50;
const KEY_CHARS_MAX: usize = 128;
const VALUE_CHARS_MAX: usize = 256;

/// Tags in the form of the `x-amz-tagging` header: `key=value&…`, percent-encoded, `+` for a space.
///
/// # Errors
/// 400 InvalidArgument when it is not of that form, otherwise as [`check_object_tags`].
pub(super) fn parse_header(header: &str) -> S3Result<Vec<Tag>> {
    let malformed = || {
        let error = s3_error!(
            InvalidArgument,
            "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query parameters \
             without tag name duplicates."
        );
        let error = with_detail(error, "ArgumentName", "x-amz-tagging");
        with_detail(error, "ArgumentValue", header)
    };
    let decode = |text: &str| form_decoded(text).ok_or_else(malformed);
    let mut tags: Vec<Tag> = Vec::new();
    for pair in header.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let tag = Tag {
            key: decode(key)?,
            value: decode(value)?,
        };
        if tags.iter().any(|other| other.key == tag.key) {
            return Err(malformed());
        }
        tags.push(tag);
    }
    check_object_tags(&tags)?;
    Ok(tags)
}

/// Checks number, lengths, characters and uniqueness of an object's tags.
///
/// # Errors
/// 400 BadRequest or InvalidTag.
pub(super) fn check_object_tags(tags: &[Tag]) -> S3Result {
    if tags.len() > OBJECT_TAGS_MAX {
        let code = S3ErrorCode::Custom("BadRequest".into());
        let mut error = S3Error::with_message(code, "Object tags cannot be greater than 10");
        error.set_status_code(hyper::StatusCode::BAD_REQUEST);
        return Err(error);
    }
    check_each(tags)
}

fn check_each(tags: &[Tag]) -> S3Result {
    for (i, tag) in tags.iter().enumerate() {
        let invalid = |message: &'static str| {
            let error = S3Error::with_message(S3ErrorCode::InvalidTag, message);
            with_detail(error, "TagKey", &tag.key)
        };
        let key_chars = tag.key.chars().count();
        if key_chars == 0 || key_chars > KEY_CHARS_MAX || !tag.key.chars().all(is_allowed) {
            return Err(invalid("The TagKey you have provided is invalid"));
        }
        if tag.value.chars().count() > VALUE_CHARS_MAX || !tag.value.chars().all(is_allowed) {
            return Err(invalid("The TagValue you have provided is invalid"));
        }
        if tag.key.to_ascii_lowercase().starts_with("aws:") {
            return Err(invalid("System tags cannot be added/updated by requester"));
        }
        if tags[..i].iter().any(|other| other.key == tag.key) {
            return Err(invalid("Cannot provide multiple Tags with the same key"));
        }
    }
    Ok(())
}

fn is_allowed(c: char) -> bool {
    c.is_alphanumeric() || (c.is_whitespace() && !c.is_control()) || "+-=._:/@".contains(c)
}

fn from_dto(tags: dto::TagSet) -> S3Result<Vec<Tag>> {
    tags.into_iter()
        .map(|tag| match (tag.key, tag.value) {
            (Some(key), Some(value)) => Ok(Tag { key, value }),
            _ => Err(s3_error!(MalformedXML)),
        })
        .collect()
}

fn to_dto(tags: &[Tag]) -> dto::TagSet {
    tags.iter()
        .map(|tag| dto::Tag {
            key: Some(tag.key.clone()),
            value: Some(tag.value.clone()),
        })
        .collect()
}

pub(super) async fn get_object_tagging(
    service: &Service,
    request: S3Request<GetObjectTaggingInput>,
) -> S3Result<S3Response<GetObjectTaggingOutput>> {
    let input = request.input;
    let bucket = service.bucket(&input.bucket)?;
    let version_id = object_version::parse_version_id(input.version_id.as_deref())?;
    let version = object_version::find(&bucket, &input.key, version_id.as_ref())?;
    let tags = version.object().map(|object| &object.properties.tags[..]);
    Ok(S3Response::new(GetObjectTaggingOutput {
        tag_set: to_dto(tags.unwrap_or_default()),
        version_id: object_version::shown_id(&bucket.config(), &version),
    }))
}

pub(super) async fn put_object_tagging(
    service: &Service,
    request: S3Request<PutObjectTaggingInput>,
) -> S3Result<S3Response<PutObjectTaggingOutput>> {
    let input = request.input;
    let tags = from_dto(input.tagging.tag_set)?;
    check_object_tags(&tags)?;
    let version_id = replace_tags(service, input.bucket, input.key, input.version_id, tags).await?;
    Ok(S3Response::new(PutObjectTaggingOutput { version_id }))
}

pub(super) async fn delete_object_tagging(
    service: &Service,
    request: S3Request<DeleteObjectTaggingInput>,
) -> S3Result<S3Response<DeleteObjectTaggingOutput>> {
    let input = request.input;
    let none = Vec::new();
    let version_id = replace_tags(service, input.bucket, input.key, input.version_id, none).await?;
    let output = DeleteObjectTaggingOutput { version_id };
    let no_content = hyper::StatusCode::NO_CONTENT;
    Ok(S3Response::with_status(output, no_content))
}

async fn replace_tags(
    service: &Service,
    bucket: String,
    key: String,
    version_id: Option<String>,
    tags: Vec<Tag>,
) -> S3Result<Option<String>> {
    let bucket = service.bucket(&bucket)?;
    let version_id = object_version::parse_version_id(version_id.as_deref())?;
    blocking(move || {
        let version = object_version::change(&bucket, &key, version_id.as_ref(), |object| {
            object.properties.tags = tags;
            Ok(())
        })?;
        Ok(object_version::shown_id(&bucket.config(), &version))
    })
    .await
}

pub(super) async fn get_bucket_tagging(
    service: &Service,
    request: S3Request<GetBucketTaggingInput>,
) -> S3Result<S3Response<GetBucketTaggingOutput>> {
    let config = service.bucket(&request.input.bucket)?.config();
    if config.tags.is_empty() {
        let code = S3ErrorCode::NoSuchTagSet;
        return Err(S3Error::with_message(code, "The TagSet does not exist"));
    }
    Ok(S3Response::new(GetBucketTaggingOutput {
        tag_set: to_dto(&config.tags),
    }))
}

pub(super) async fn put_bucket_tagging(
    service: &Service,
    request: S3Request<PutBucketTaggingInput>,
) -> S3Result<S3Response<PutBucketTaggingOutput>> {
    let tags = from_dto(request.input.tagging.tag_set)?;
    if tags.len() > BUCKET_TAGS_MAX {
        return Err(s3_error!(
            InvalidTag,
            "Bucket tag count cannot be greater than 50"
        ));
    }
    check_each(&tags)?;
    service
        .change_bucket(&request.input.bucket, |bucket| {
            bucket.tags = tags;
            Ok(())
        })
        .await?;
    let no_content = hyper::StatusCode::NO_CONTENT;
    Ok(S3Response::with_status(
        PutBucketTaggingOutput::default(),
        no_content,
    ))
}

pub(super) async fn delete_bucket_tagging(
    service: &Service,
    request: S3Request<DeleteBucketTaggingInput>,
) -> S3Result<S3Response<DeleteBucketTaggingOutput>> {
    service
        .change_bucket(&request.input.bucket, |bucket| {
            bucket.tags.clear();
            Ok(())
        })
        .await?;
    Ok(S3Response::new(DeleteBucketTaggingOutput::default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(key: &str, value: &str) -> Tag {
        Tag {
            key: key.to_owned(),
            value: value.to_owned(),
        }
    }

    #[test]
    fn the_header_is_decoded() {
        let tags = parse_header("a=1&b%20c=d+e%2B&empty=&bare").unwrap();
        let expected = [
            tag("a", "1"),
            tag("b c", "d e+"),
            tag("empty", ""),
            tag("bare", ""),
        ];
        assert_eq!(tags, expected);
        assert_eq!(parse_header("").unwrap(), []);
    }

    #[test]
    fn what_s3_refuses_is_refused() {
        let too_many: Vec<String> = (0..11).map(|i| format!("k{i}=v")).collect();
        let long_key = format!("{}=v", "k".repeat(129));
        let long_value = format!("k={}", "v".repeat(257));
        let table = [
            ("a=1&a=2", "InvalidArgument"),
            ("a=%zz", "InvalidArgument"),
            ("a=%ff", "InvalidArgument"),
            ("=v", "InvalidTag"),
            ("aws:x=1", "InvalidTag"),
            ("a=%3C", "InvalidTag"),
            (&long_key, "InvalidTag"),
            (&long_value, "InvalidTag"),
            (&too_many.join("&"), "BadRequest"),
        ];
        for (header, code) in table {
            let error = parse_header(header).unwrap_err();
            let told = (error.code().as_str(), error.status_code().unwrap().as_u16());
            assert_eq!(told, (code, 400), "{header}");
        }
        // Characters are counted, not bytes.
        parse_header(&format!("{}=v", "é".repeat(128))).unwrap();
    }
}
