//! The summary of a run, pushed to a Pushgateway: what a short job leaves that nobody has scraped in time.

use crate::http::{Address, Http};
use crate::shard::Shard;

/// Where the Pushgateway groups what it is pushed, unless its address says it.
const PUSH_GROUP: &str = "/metrics/job/reseal";

/// Pushes the summary of a run. Metrics of those names in the group are replaced, others stay.
///
/// # Errors
/// Why it did not get there.
pub async fn last_run(gateway: &Address, shard: Shard, text: String) -> Result<(), String> {
    let mut address = match gateway.is_bare() {
        true => gateway.below(PUSH_GROUP),
        false => gateway.clone(),
    };
    if shard.count > 1 {
        address = address.below(&format!("/shard/{}", shard.index));
    }
    let http = Http::to(&address).map_err(|error| error.to_string())?;
    match http.post(text).await {
        Ok(200..=299) => Ok(()),
        Ok(status) => Err(format!("it answers {status}")),
        Err(error) => Err(error.to_string()),
    }
}
