//! What a seed stands for: a bucket, its objects, a job, and the weather.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::SmallRng;

use super::book::Kind;
use super::faults::{Fault, Weather, chance};
use super::ledger::Bounds;
use crate::bucket::{
    Acls, BucketFacts, DefaultEncryption, Lifecycle, Notifications, ObjectLock, Versioning,
};
use crate::closure::{Loss, Losses};
use crate::encryption::{CustomerKey, KmsTarget, Target};
use crate::engine;
use crate::plan::{MethodChoice, Rules, Versions};
use crate::profile::StoreProfile;
use crate::task::{self, Verify};

pub const BUCKET: &str = "simulated";
/// The alias of the target's KMS key.
pub const ALIAS: &str = "alias/simulated";
/// Objects larger than this are copied in parts: in one, which is cheap.
const THRESHOLD: u64 = 300;

/// An object of the bucket.
#[derive(Clone, Debug)]
pub struct Thing {
    pub key: String,
    pub bytes: usize,
    /// How often something was put there before.
    pub older: u32,
    pub under: Target,
    /// Whether the manifest's row says what an inventory would.
    pub is_known: bool,
    /// Whether the manifest's row names the version.
    pub is_named: bool,
}

/// A time in which nothing goes on.
#[derive(Clone, Copy, Debug)]
pub struct Outage {
    pub begin: Duration,
    pub end: Duration,
    /// What everybody gets.
    pub fault: Fault,
}

impl Outage {
    fn of(rng: &mut SmallRng) -> Self {
        let begin = Duration::from_millis(rng.random_range(0..3_000));
        let lasts = Duration::from_millis([100, 5_000, 90_000][rng.random_range(0..3)]);
        Self {
            begin,
            end: begin + lasts,
            fault: [Fault::Expired, Fault::Refused, Fault::Trouble(503)][rng.random_range(0..3)],
        }
    }
}

/// What is simulated.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub seed: u64,
    pub versioning: Versioning,
    pub target: Target,
    /// The target's key by its alias.
    pub alias: Option<String>,
    pub source_keys: Vec<CustomerKey>,
    pub things: Vec<Thing>,
    pub profile: StoreProfile,
    pub settings: task::Settings,
    pub engine: engine::Settings,
    /// Requests on the wire.
    pub concurrency: usize,
    pub rate: Option<u32>,
    pub canary: u64,
    pub weather: Weather,
    /// How long runners wait while nothing goes on.
    pub max_stall: Duration,
    /// When nothing goes on, from the beginning, and for how long.
    pub outages: Vec<Outage>,
    /// What the state is on.
    pub state: Kind,
    /// Whether a state in S3 has been begun.
    pub is_founded: bool,
    /// Appends that fail, in thousandths.
    pub journal_faults: u32,
    /// In thousandths of the requests for a key: somebody else writes to it just before.
    pub meddling: u32,
    /// Within how many steps of its own each of the first runners dies.
    pub crashes: Vec<u64>,
    /// When a second runner takes over from the first, which goes on.
    pub rival_after: Option<Duration>,
    /// Runners that are asked to stop.
    pub drains: u32,
}

fn customer_key(byte: u8) -> CustomerKey {
    CustomerKey::from_file_content(&[byte; 32]).expect("32 bytes")
}

fn kms(arn: &str) -> KmsTarget {
    KmsTarget {
        key_id: Some(arn.to_owned()),
        ..KmsTarget::default()
    }
}

/// The KMS keys of the store: the target's and another.
pub type Keys = [String; 2];

fn under(rng: &mut SmallRng, [new, old]: &Keys) -> Target {
    match rng.random_range(0..6) {
        0 => Target::SseKms(kms(old)),
        1 => Target::DsseKms(kms(old)),
        2 => Target::SseC(customer_key(1)),
        3 => Target::SseKms(kms(new)),
        _ => Target::SseS3,
    }
}

impl Scenario {
    /// What the seed says.
    pub fn of(seed: u64, keys: &Keys) -> Self {
        let rng = &mut chance(seed, 1);
        let target = match rng.random_range(0..6) {
            0 => Target::SseS3,
            1 => Target::DsseKms(kms(&keys[0])),
            2 => Target::SseC(customer_key(2)),
            _ => Target::SseKms(kms(&keys[0])),
        };
        let versioning = [
            Versioning::Never,
            Versioning::Enabled,
            Versioning::Suspended,
        ][rng.random_range(0..3)];
        let updates = rng.random();
        let knows = rng.random_ratio(1, 3);
        let names = versioning == Versioning::Enabled && rng.random_ratio(1, 4);
        // Several versions of a key are rewritten together, or deleted once they are superseded.
        let piles = versioning == Versioning::Enabled && rng.random_ratio(1, 2);
        let restacks = piles && !names && rng.random();
        let supersedes = piles && rng.random();
        let rows = rng.random_range(1..if piles { 4 } else { 10 });
        let things = (0..rows)
            .map(|number| Thing {
                key: format!("key-{number}"),
                bytes: [0, 10, 200, 400][rng.random_range(usize::from(piles)..4)],
                older: if piles { rng.random_range(0..3) } else { 0 },
                under: under(rng, keys),
                is_known: knows,
                is_named: names,
            })
            .collect();
        let crashes = [0, 1, 3][rng.random_range(0..3)];
        let state = [Kind::Directory, Kind::Shared, Kind::S3][rng.random_range(0..3)];
        let has_rival = state != Kind::Directory && rng.random_ratio(1, 3);
        let rival_after = has_rival.then(|| Duration::from_millis(rng.random_range(0..2_000)));
        Self {
            seed,
            versioning,
            source_keys: vec![customer_key(1), customer_key(2)],
            alias: (target.kms().is_some() && rng.random_ratio(1, 4)).then(|| ALIAS.to_owned()),
            target,
            things,
            profile: StoreProfile {
                updates_encryption: updates,
                ..StoreProfile::documented()
            },
            settings: task::Settings {
                rules: Rules {
                    method: if rng.random_ratio(1, 5) {
                        MethodChoice::Copy
                    } else {
                        MethodChoice::Auto
                    },
                    multipart_threshold: THRESHOLD,
                    versions: if restacks {
                        Versions::Restack
                    } else {
                        Versions::Current
                    },
                    allowed: Losses::new(vec![Loss::KmsContext]),
                    ..Rules::default()
                },
                verify: match rng.random_range(0..6) {
                    0 => Verify::Head,
                    1 => Verify::Read,
                    2 => Verify::Sample(0.5),
                    _ => Verify::Answer,
                },
                delete_superseded: supersedes,
                evidence: rng.random_ratio(1, 3),
                ..task::Settings::default()
            },
            engine: engine::Settings {
                tasks: rng.random_range(1..6),
                failure_threshold_percent: 50,
                stop_on: BTreeSet::new(),
            },
            concurrency: rng.random_range(1..6),
            rate: [None, Some(1), Some(5), Some(100)][rng.random_range(0..4)],
            canary: [0, 0, 1, 3][rng.random_range(0..4)],
            weather: Weather::of(rng),
            max_stall: Duration::from_secs([0, 60][rng.random_range(0..2)]),
            outages: (0..[0, 0, 1, 3][rng.random_range(0..4)])
                .map(|_| Outage::of(rng))
                .collect(),
            state,
            is_founded: state == Kind::S3 && rng.random_ratio(3, 4),
            journal_faults: [0, 0, 30, 150][rng.random_range(0..4)],
            meddling: [0, 0, 20, 100][rng.random_range(0..4)],
            crashes: (0..crashes).map(|_| rng.random_range(1..150)).collect(),
            rival_after,
            drains: [0, 0, 0, 1][rng.random_range(0..4)],
        }
    }

    /// A small job in which nothing goes wrong by itself, with an object for each method.
    pub fn of_everything(keys: &Keys, state: Kind) -> Self {
        let old = Target::SseKms(kms(&keys[1]));
        let things = [
            (10, Target::SseS3),
            (400, Target::SseC(customer_key(1))),
            (10, Target::DsseKms(kms(&keys[1]))),
            (10, old),
            (10, Target::SseKms(kms(&keys[0]))),
        ];
        let things = (0..).zip(things).map(|(number, (bytes, under))| Thing {
            key: format!("key-{number}"),
            bytes,
            older: 0,
            under,
            is_known: false,
            is_named: false,
        });
        let mut scenario = Self::of(0, keys);
        scenario.versioning = Versioning::Enabled;
        scenario.target = Target::SseKms(kms(&keys[0]));
        scenario.things = things.collect();
        scenario.profile.updates_encryption = true;
        scenario.settings.rules.method = MethodChoice::Auto;
        scenario.settings.rules.versions = Versions::Current;
        scenario.settings.delete_superseded = false;
        scenario.alias = None;
        scenario.settings.verify = Verify::Answer;
        scenario.engine.tasks = 3;
        scenario.concurrency = 3;
        scenario.rate = None;
        scenario.canary = 0;
        scenario.weather = Weather { any: 0, expired: 0 };
        scenario.outages.clear();
        scenario.state = state;
        scenario.is_founded = state == Kind::S3;
        scenario.journal_faults = 0;
        scenario.meddling = 0;
        scenario.crashes.clear();
        scenario.rival_after = None;
        scenario.drains = 0;
        scenario
    }

    /// The target as a runner is given it.
    pub fn asked_target(&self, resolved: Option<String>) -> Target {
        let mut target = self.target.clone();
        if let (Target::SseKms(kms) | Target::DsseKms(kms), Some(alias)) =
            (&mut target, &self.alias)
        {
            kms.key_id = Some(alias.clone());
            kms.resolved = resolved;
        }
        target
    }

    /// What a run would find out about the bucket.
    pub fn facts(&self) -> BucketFacts {
        BucketFacts {
            versioning: Some(self.versioning),
            acls: Some(Acls::Disabled),
            object_lock: Some(ObjectLock::Disabled),
            default_encryption: Some(DefaultEncryption::default()),
            website: Some(false),
            replication: Some(Vec::new()),
            notifications: Some(Notifications::default()),
            lifecycle: Some(Lifecycle::default()),
            ..BucketFacts::unknown(BUCKET)
        }
    }

    /// Whether there are times without credentials.
    pub fn expires(&self) -> bool {
        let expired = |outage: &Outage| outage.fault == Fault::Expired;
        self.weather.expired > 0 || self.outages.iter().any(expired)
    }

    pub fn bounds(&self) -> Bounds {
        Bounds {
            tasks: self.engine.tasks,
            requests: self.concurrency,
            writes: self.rate.map(|rate| rate as usize),
        }
    }
}
