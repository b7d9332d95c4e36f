//! What one does to a data folder from outside: serve it, and look after its keys.
//!
//! The key functions also work while the folder is being served; the server sees what they change at its next
//! request.

use std::path::{Path, PathBuf};

use super::server::{LocalS3, Options, StartError};
use super::vault::{KeyState, KmsKey, Vault, VaultError};

/// Why the keys of a folder could not be looked at or changed.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// There is nothing of the embedded S3's in the folder.
    #[error("{} holds no keys: it has never been served, or the path is wrong", .0.display())]
    NotAFolder(PathBuf),
    /// What the vault says.
    #[error(transparent)]
    Vault(#[from] VaultError),
}

/// Serves a folder until `shutdown` resolves; `started` is given the server once it listens.
///
/// # Errors
/// As [`LocalS3::start`].
pub async fn serve(
    options: Options,
    started: impl FnOnce(&LocalS3),
    shutdown: impl Future<Output = ()>,
) -> Result<(), StartError> {
    let server = LocalS3::start(options)?;
    started(&server);
    shutdown.await;
    if let Err(error) = tokio::task::spawn_blocking(move || server.stop()).await {
        tracing::error!(%error, "the embedded S3 did not stop in order");
    }
    Ok(())
}

/// The KMS keys of a folder, oldest first.
///
/// # Errors
/// [`AdminError`].
pub fn list_keys(data: &Path) -> Result<Vec<KmsKey>, AdminError> {
    Ok(open_existing(data)?.keys()?)
}

/// Adds a KMS key, under an alias if one is given. It makes the folder when it is missing, so that keys can be there
/// before anybody serves it.
///
/// # Errors
/// [`AdminError::Vault`], for example when the alias is taken.
pub fn add_key(data: &Path, alias: Option<&str>) -> Result<KmsKey, AdminError> {
    let folder_missing = |source| VaultError::Io {
        doing: format!("making {}", data.display()),
        source,
    };
    std::fs::create_dir_all(data).map_err(folder_missing)?;
    Ok(Vault::open(data)?.add_key(alias)?)
}

/// Enables or disables a KMS key, or leaves it waiting for deletion; `key` is an id, an ARN or an alias.
///
/// # Errors
/// [`AdminError`], for example when there is no such key.
pub fn set_key_state(data: &Path, key: &str, state: KeyState) -> Result<KmsKey, AdminError> {
    Ok(open_existing(data)?.set_key_state(key, state)?)
}

/// Adds a root key for SSE-S3 and returns its version. Objects under older versions stay readable.
///
/// # Errors
/// [`AdminError`].
pub fn rotate_root(data: &Path) -> Result<u32, AdminError> {
    Ok(open_existing(data)?.rotate_root()?)
}

/// Without making one: a mistyped path should not become a folder.
fn open_existing(data: &Path) -> Result<Vault, AdminError> {
    if !data.join("keys").is_dir() {
        return Err(AdminError::NotAFolder(data.to_owned()));
    }
    Ok(Vault::open(data)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_looked_after_beside_a_running_server() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        assert!(matches!(list_keys(&data), Err(AdminError::NotAFolder(_))));
        assert!(!data.exists());

        let key = add_key(&data, Some("mine")).unwrap();
        let server = LocalS3::start(Options::for_tests(&data)).unwrap();
        let changed = set_key_state(&data, "alias/mine", KeyState::Disabled).unwrap();
        assert_eq!((changed.id, changed.state), (key.id, KeyState::Disabled));
        assert_eq!(list_keys(&data).unwrap().len(), 2);
        assert_eq!(rotate_root(&data).unwrap(), 2);
        server.stop();
    }

    #[tokio::test]
    async fn serving_ends_with_the_shutdown() {
        let folder = tempfile::tempdir().unwrap();
        let (tell, told) = tokio::sync::oneshot::channel();
        let started = |server: &LocalS3| tell.send(server.addr()).unwrap();
        let shutdown = async {
            let addr = told.await.unwrap();
            tokio::net::TcpStream::connect(addr).await.unwrap();
        };
        serve(Options::for_tests(folder.path()), started, shutdown)
            .await
            .unwrap();
        // The folder is free again.
        LocalS3::start(Options::for_tests(folder.path())).unwrap();
    }
}
