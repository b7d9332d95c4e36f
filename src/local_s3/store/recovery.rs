//! Reading a folder at start, and removing what a crash left over.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::bucket::BucketStore;
use super::index::KeyIndex;
use super::layout::{BucketDir, Root, read_description};
use super::uploads::{UploadState, Uploads};
use super::{Sequence, StoreError};
use crate::local_s3::model::{DataId, Part, Segment, Upload, Version};

/// Every segment that some description names.
type Named = HashMap<DataId, HashSet<u32>>;

/// Reads all buckets of a folder.
pub(super) fn read_buckets(
    root: &Root,
    sequence: &Arc<Sequence>,
) -> Result<BTreeMap<String, Arc<BucketStore>>, StoreError> {
    let mut buckets = BTreeMap::new();
    for (name, _) in entries(&root.buckets())? {
        let bucket = read_bucket(root.bucket_dir(&name), sequence)?;
        buckets.insert(name, Arc::new(bucket));
    }
    Ok(buckets)
}

fn read_bucket(dir: BucketDir, sequence: &Arc<Sequence>) -> Result<BucketStore, StoreError> {
    let config = read_description(&dir.config())?;
    let mut named = Named::new();
    let keys = read_versions(&dir, sequence, &mut named)?;
    let uploads = read_uploads(&dir, sequence, &mut named)?;
    remove_unnamed(&dir.data(), &named)?;
    Ok(BucketStore::with(
        dir,
        config,
        keys,
        uploads,
        sequence.clone(),
    ))
}

fn read_versions(
    dir: &BucketDir,
    sequence: &Sequence,
    named: &mut Named,
) -> Result<KeyIndex, StoreError> {
    let mut keys = KeyIndex::default();
    for (_, shard) in entries(&dir.objects())? {
        for (_, path) in entries(&shard)? {
            let version: Version = read_description(&path)?;
            if dir.version(&version.key, &version.version_id) != path {
                let reason = "it describes another key or version than its name says".to_owned();
                return Err(StoreError::Damaged { path, reason });
            }
            sequence.observe(version.sequence.max(version.written));
            if let Some(object) = version.object() {
                name(named, &object.data, object.segments.iter());
            }
            keys.insert(Arc::new(version));
        }
    }
    Ok(keys)
}

fn read_uploads(
    dir: &BucketDir,
    sequence: &Sequence,
    named: &mut Named,
) -> Result<Uploads, StoreError> {
    let uploads = Uploads::default();
    for (upload_id, path) in entries(&dir.uploads())? {
        let description = dir.upload_description(&upload_id);
        let initiated = description
            .try_exists()
            .map_err(StoreError::io(&description))?;
        let upload: Option<Upload> = if initiated {
            Some(read_description(&description)?)
        } else {
            None
        };
        // Without a description the crash came before the upload was initiated; when an object already has its
        // data, after it was completed.
        let data = DataId(upload_id);
        let Some(upload) = upload.filter(|_| !named.contains_key(&data)) else {
            dir.discard_dir(&path)?;
            continue;
        };
        let parts = read_parts(&path, &description)?;
        sequence.observe(upload.sequence);
        name(named, &data, parts.values().map(|part| &part.segment));
        uploads.insert(UploadState::new(upload, parts));
    }
    Ok(uploads)
}

fn read_parts(dir: &Path, description: &Path) -> Result<BTreeMap<u32, Part>, StoreError> {
    let mut parts = BTreeMap::new();
    for (_, path) in entries(dir)? {
        if path != *description {
            let part: Part = read_description(&path)?;
            parts.insert(part.number, part);
        }
    }
    Ok(parts)
}

fn name<'a>(named: &mut Named, data: &DataId, segments: impl Iterator<Item = &'a Segment>) {
    named
        .entry(data.clone())
        .or_default()
        .extend(segments.map(|segment| segment.number));
}

/// Removes ciphertext that nothing names: of writes that did not finish, and of objects that were replaced.
fn remove_unnamed(dir: &Path, named: &Named) -> Result<(), StoreError> {
    for (_, shard) in entries(dir)? {
        for (file_name, path) in entries(&shard)? {
            let is_named = DataId::of_file_name(&file_name).is_some_and(|(data, number)| {
                named
                    .get(&data)
                    .is_some_and(|numbers| numbers.contains(&number))
            });
            if !is_named {
                tracing::info!(path = %path.display(), "removing what an interrupted write left over");
                fs::remove_file(&path).map_err(StoreError::io(&path))?;
            }
        }
    }
    Ok(())
}

/// Names and paths in a folder.
fn entries(dir: &Path) -> Result<Vec<(String, PathBuf)>, StoreError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(StoreError::io(dir))? {
        let entry = entry.map_err(StoreError::io(dir))?;
        found.push((
            entry.file_name().to_string_lossy().into_owned(),
            entry.path(),
        ));
    }
    Ok(found)
}
