//! Who we are to the store, for as long as a job takes: the SDK's chain of credentials, asked anew in time.
//!
//! The SDK's own cache keeps credentials until the expiry that they name, and the chain below it keeps what it has read of AWS's
//! files for as long as it lives (`ProviderConfig` and `ProfileFileCredentialsProvider` in aws-config). So a session token that
//! a sidecar has renewed in the credentials file would never be found, nor would anything that the store refuses before its
//! time. Hence this one in their place:
//!
//! - the chain is built anew for each fetch, so that everything is read again;
//! - credentials are renewed ahead of their expiry, and now and then where they name none; while that fails, those that have
//!   not expired are used on;
//! - what the store has refused is fetched again before the next request. Many requests that were signed with the same
//!   credentials are one refusal ([`TellRefused`]);
//! - between two fetches there is a pause, whatever is asked.
//!
//! The identity cache of the client has to be off: it would sit in front of all this.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::{self, ProvideCredentials, error::CredentialsError, future};
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::config::interceptors::{
    AfterDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextRef,
};
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_smithy_types::config_bag::{Storable, StoreReplace};
use futures::future::BoxFuture;
use tokio::time::Instant;

use super::error::causes;
use crate::s3_error::is_credentials_code;

/// Between the end of one fetch and the next: whoever gives credentials is not asked more often, whatever the store says.
const FETCH_INTERVAL: Duration = Duration::from_secs(5);
/// How long a fetch may take. Shorter than any request's time-out. Source: the SDK's own, about 22 s for its three attempts.
const FETCH_TIMEOUT: Duration = Duration::from_secs(20);
/// Credentials are renewed so long before they expire, or when half of their life is over, where that is later. Source: an
/// instance's new ones are there five minutes before the old ones expire (EC2 User Guide, "Retrieve security credentials").
const RENEW_AHEAD: Duration = Duration::from_secs(5 * 60);
/// Credentials that name no expiry are read again so often. Source: the SDK's identity cache, 15 min.
const READ_AGAIN: Duration = Duration::from_secs(15 * 60);

/// Builds the chain and asks it.
pub(super) type Fetch =
    Box<dyn Fn() -> BoxFuture<'static, Result<Credentials, CredentialsError>> + Send + Sync>;

/// Credentials that are fetched again in time.
pub(super) struct Renewing {
    fetch: Fetch,
    held: Mutex<Held>,
    /// Held by the one who fetches.
    turn: tokio::sync::Mutex<()>,
}

/// What is known of the credentials.
#[derive(Default)]
struct Held {
    current: Option<Current>,
    /// Of the current ones: which they are, from 1.
    number: u64,
    /// The store has refused the current ones.
    is_refused: bool,
    /// When the last fetch ended.
    fetched_at: Option<Instant>,
    /// Why it gave nothing.
    failure: Option<Failure>,
}

struct Current {
    credentials: Credentials,
    renew_at: Instant,
    expires_at: Option<Instant>,
}

/// An error of the chain, which can't be cloned.
#[derive(Clone, Debug)]
struct Failure {
    is_for_the_moment: bool,
    text: String,
}

/// What a request gets.
enum Next {
    Use(Credentials),
    Fail(Failure),
    /// To be fetched; meanwhile others use these.
    Fetch(Option<Credentials>),
}

impl Held {
    fn next(&self) -> Next {
        let now = Instant::now();
        let paused = self.fetched_at.is_some_and(|at| now < at + FETCH_INTERVAL);
        let Some(current) = &self.current else {
            return match &self.failure {
                Some(failure) if paused => Next::Fail(failure.clone()),
                _ => Next::Fetch(None),
            };
        };
        let credentials = || current.credentials.clone();
        let is_expired = current.expires_at.is_some_and(|at| at <= now);
        let is_good = !is_expired && !self.is_refused;
        if is_good && now < current.renew_at {
            return Next::Use(credentials());
        }
        match &self.failure {
            _ if !paused => Next::Fetch(is_good.then(credentials)),
            Some(failure) if !is_good => Next::Fail(failure.clone()),
            // They are what there is: the store has the last word on a clock that is wrong, or on a refusal that is over.
            _ => Next::Use(credentials()),
        }
    }

    fn take(&mut self, fetched: Result<Credentials, CredentialsError>) {
        let now = Instant::now();
        self.fetched_at = Some(now);
        match fetched {
            Ok(credentials) => {
                let is_same = |current: &Current| is_same(&current.credentials, &credentials);
                if !self.current.as_ref().is_some_and(is_same) {
                    self.number += 1;
                    self.is_refused = false;
                    if self.number > 1 {
                        tracing::info!("new credentials");
                    }
                }
                self.failure = None;
                self.current = Some(Current::of(credentials, now));
            }
            Err(error) => {
                // What has given credentials before will do so again: a file may be half written.
                let is_for_the_moment = self.current.is_some()
                    || matches!(
                        error,
                        CredentialsError::ProviderError(_) | CredentialsError::ProviderTimedOut(_)
                    );
                let text = causes(&error);
                tracing::debug!("no credentials: {text}");
                self.failure = Some(Failure {
                    is_for_the_moment,
                    text,
                });
            }
        }
    }
}

impl Current {
    fn of(credentials: Credentials, now: Instant) -> Self {
        let life = credentials.expiry().map(|expiry| {
            let life = expiry.duration_since(SystemTime::now());
            life.unwrap_or_default()
        });
        let renew_after = life.map_or(READ_AGAIN, |life| {
            life.saturating_sub(RENEW_AHEAD).max(life / 2)
        });
        Self {
            credentials,
            renew_at: now + renew_after,
            expires_at: life.map(|life| now + life),
        }
    }
}

fn is_same(one: &Credentials, other: &Credentials) -> bool {
    one.access_key_id() == other.access_key_id()
        && one.secret_access_key() == other.secret_access_key()
        && one.session_token() == other.session_token()
}

impl Failure {
    fn to_error(&self) -> CredentialsError {
        let text = self.text.clone();
        if self.is_for_the_moment {
            CredentialsError::provider_error(text)
        } else {
            CredentialsError::not_loaded(text)
        }
    }
}

impl Renewing {
    pub(super) fn new(fetch: Fetch) -> Self {
        Self {
            fetch,
            held: Mutex::default(),
            turn: tokio::sync::Mutex::new(()),
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Next {
        self.held().next()
    }

    async fn credentials(&self) -> provider::Result {
        let _turn = match self.next() {
            Next::Use(credentials) => return Ok(credentials),
            Next::Fail(failure) => return Err(failure.to_error()),
            Next::Fetch(None) => self.turn.lock().await,
            Next::Fetch(Some(old)) => match self.turn.try_lock() {
                Ok(turn) => turn,
                Err(_) => return Ok(old),
            },
        };
        // Somebody else may have had the turn before.
        if let Next::Fetch(_) = self.next() {
            let fetched = tokio::time::timeout(FETCH_TIMEOUT, (self.fetch)()).await;
            let timed_out = |_| Err(CredentialsError::provider_timed_out(FETCH_TIMEOUT));
            let fetched = fetched.unwrap_or_else(timed_out);
            self.held().take(fetched);
        }
        match self.next() {
            Next::Use(credentials) | Next::Fetch(Some(credentials)) => Ok(credentials),
            Next::Fail(failure) => Err(failure.to_error()),
            Next::Fetch(None) => Err(CredentialsError::provider_timed_out(FETCH_INTERVAL)),
        }
    }

    /// Which credentials are handed out now.
    fn number(&self) -> u64 {
        self.held().number
    }

    /// An answer to what was signed with those of this number.
    fn hear(&self, number: u64, response: &HttpResponse) {
        let code = response.body().bytes().and_then(code_of);
        if response.status().is_client_error() && code.is_some_and(is_credentials_code) {
            self.refused(number);
        }
    }

    /// The store has refused those of this number. Others than the current ones are gone anyway.
    fn refused(&self, number: u64) {
        let mut held = self.held();
        if held.number == number {
            held.is_refused = true;
        }
    }
}

/// Keys are nobody's business.
impl fmt::Debug for Renewing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = self.held();
        f.debug_struct("Renewing")
            .field("number", &held.number)
            .field("is_refused", &held.is_refused)
            .finish_non_exhaustive()
    }
}

impl ProvideCredentials for Renewing {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.credentials())
    }
}

/// Lets the credentials know that the store has refused them.
#[derive(Debug)]
pub(super) struct TellRefused(pub(super) Arc<Renewing>);

/// The number of the credentials that a request was signed with.
#[derive(Debug)]
struct SignedWith(u64);

impl Storable for SignedWith {
    type Storer = StoreReplace<Self>;
}

impl Intercept for TellRefused {
    fn name(&self) -> &'static str {
        "TellRefused"
    }

    fn read_before_transmit(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        request: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let number = SignedWith(self.0.number());
        request.interceptor_state().store_put(number);
        Ok(())
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        request: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(&SignedWith(number)) = request.load::<SignedWith>() {
            self.0.hear(number, context.response());
        }
        Ok(())
    }
}

/// Who signs what goes around the SDK's machinery: the same credentials that the SDK signs with.
pub(super) enum Signer {
    /// Those of the chain.
    Renewing(Arc<Renewing>),
    /// Those of a store of our own making.
    Fixed(Credentials),
}

impl Signer {
    /// The credentials, and their number.
    pub(super) async fn credentials(&self) -> Result<(Credentials, u64), CredentialsError> {
        match self {
            Self::Renewing(renewing) => {
                let credentials = renewing.credentials().await?;
                Ok((credentials, renewing.number()))
            }
            Self::Fixed(credentials) => Ok((credentials.clone(), 0)),
        }
    }

    /// Takes note of an answer to what was signed with the credentials of this number.
    pub(super) fn hear(&self, number: u64, response: &HttpResponse) {
        if let Self::Renewing(renewing) = self {
            renewing.hear(number, response);
        }
    }
}

/// The code in an error document. A HEAD's refusal has none.
fn code_of(document: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(document).ok()?;
    let (_, rest) = text.split_once("<Code>")?;
    Some(rest.split_once("</Code>")?.0.trim())
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// What the chain gives, in order, and then for ever the last; and how often it was asked.
    struct Chain {
        given: Mutex<VecDeque<Result<Credentials, ()>>>,
        asked: Mutex<u32>,
    }

    impl Chain {
        fn of(given: impl IntoIterator<Item = Result<Credentials, ()>>) -> Arc<Self> {
            Arc::new(Self {
                given: Mutex::new(given.into_iter().collect()),
                asked: Mutex::new(0),
            })
        }

        fn asked(&self) -> u32 {
            *self.asked.lock().unwrap()
        }

        fn renewing(self: &Arc<Self>) -> Renewing {
            let chain = Arc::clone(self);
            Renewing::new(Box::new(move || {
                let chain = Arc::clone(&chain);
                Box::pin(async move {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    *chain.asked.lock().unwrap() += 1;
                    let mut given = chain.given.lock().unwrap();
                    let next = match given.len() {
                        1 => given[0].clone(),
                        _ => given.pop_front().unwrap(),
                    };
                    next.map_err(|()| CredentialsError::not_loaded("the file is gone"))
                })
            }))
        }
    }

    fn key(id: &str, life: Option<Duration>) -> Result<Credentials, ()> {
        let expiry = life.map(|life| SystemTime::now() + life);
        Ok(Credentials::new(id, "hush", None, expiry, "test"))
    }

    async fn id(renewing: &Renewing) -> Result<String, String> {
        let given = renewing.provide_credentials().await;
        given
            .map(|credentials| credentials.access_key_id().to_owned())
            .map_err(|error| causes(&error))
    }

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[tokio::test(start_paused = true)]
    async fn many_refusals_of_the_same_credentials_are_one_fetch() {
        let chain = Chain::of([key("old", None), key("new", None)]);
        let renewing = chain.renewing();
        let all = (0..128).map(|_| id(&renewing));
        for given in futures::future::join_all(all).await {
            assert_eq!(given.unwrap(), "old");
        }
        assert_eq!(chain.asked(), 1);
        let number = renewing.number();
        tokio::time::advance(secs(60)).await;
        (0..128).for_each(|_| renewing.refused(number));
        let all = (0..128).map(|_| id(&renewing));
        for given in futures::future::join_all(all).await {
            assert_eq!(given.unwrap(), "new");
        }
        assert_eq!(chain.asked(), 2);
        // Requests that were on their way say nothing about the new ones.
        renewing.refused(number);
        tokio::time::advance(secs(60)).await;
        assert_eq!(id(&renewing).await.unwrap(), "new");
        assert_eq!(chain.asked(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn the_chain_is_asked_once_in_an_interval_while_the_store_refuses() {
        let chain = Chain::of([key("old", None)]);
        let renewing = chain.renewing();
        let begun = Instant::now();
        while begun.elapsed() < secs(60) {
            // There are no others: the store may take them again.
            assert_eq!(id(&renewing).await.unwrap(), "old");
            renewing.refused(renewing.number());
            tokio::time::advance(Duration::from_millis(500)).await;
        }
        assert!((10..=12).contains(&chain.asked()), "{}", chain.asked());
    }

    #[tokio::test(start_paused = true)]
    async fn they_are_renewed_ahead_and_used_on_while_that_fails() {
        let hour = Some(secs(3_600));
        let chain = Chain::of([key("old", hour), Err(()), Err(()), key("new", hour)]);
        let renewing = chain.renewing();
        assert_eq!(id(&renewing).await.unwrap(), "old");
        tokio::time::advance(secs(3_600) - RENEW_AHEAD - secs(60)).await;
        assert_eq!(id(&renewing).await.unwrap(), "old");
        assert_eq!(chain.asked(), 1);
        tokio::time::advance(secs(60)).await;
        for asked in [2, 2, 3] {
            assert_eq!(id(&renewing).await.unwrap(), "old");
            assert_eq!(chain.asked(), asked);
            tokio::time::advance(secs(3)).await;
        }
        tokio::time::advance(secs(3)).await;
        assert_eq!(id(&renewing).await.unwrap(), "new");
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_expired_and_can_not_be_renewed_is_trouble_for_the_moment() {
        let chain = Chain::of([key("old", Some(secs(8))), Err(())]);
        let renewing = chain.renewing();
        assert_eq!(id(&renewing).await.unwrap(), "old");
        tokio::time::advance(secs(9)).await;
        for _ in 0..2 {
            let error = renewing.provide_credentials().await.unwrap_err();
            assert!(matches!(error, CredentialsError::ProviderError(_)));
            assert!(causes(&error).contains("the file is gone"));
        }
        assert_eq!(chain.asked(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn none_from_the_start_is_no_trouble_for_the_moment() {
        let renewing = Chain::of([Err(())]).renewing();
        let error = renewing.provide_credentials().await.unwrap_err();
        assert!(matches!(error, CredentialsError::CredentialsNotLoaded(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_chain_that_hangs_is_not_waited_for_longer_than_a_request() {
        let renewing = Renewing::new(Box::new(|| Box::pin(std::future::pending())));
        let begun = Instant::now();
        let error = renewing.provide_credentials().await.unwrap_err();
        assert!(causes(&error).contains("timed out"), "{error:?}");
        assert_eq!(begun.elapsed(), FETCH_TIMEOUT);
    }

    #[tokio::test]
    async fn no_debug_shows_a_secret() {
        let renewing = Chain::of([key("AKID", None)]).renewing();
        id(&renewing).await.unwrap();
        let shown = format!("{renewing:?}");
        assert!(
            !shown.contains("hush") && !shown.contains("AKID"),
            "{shown}"
        );
    }

    #[test]
    fn the_code_of_a_document() {
        let document = b"<?xml?><Error><Code>ExpiredToken</Code><Message/></Error>";
        assert_eq!(code_of(document), Some("ExpiredToken"));
        assert_eq!(code_of(b""), None);
        assert_eq!(code_of(b"<Code>"), None);
    }
}
