//! One line for each rewrite, and none for what was none, whatever was killed on the way.

use super::*;

#[tokio::test]
async fn every_rewrite_has_its_line_whatever_was_killed() {
    let (objects, kills) = (300, 5);
    let setup = Versioned::with_objects(objects).await;
    let job = setup.job().args("--rate 250 --evidence evidence");
    let mut rng = chance::rng(seed());
    for _ in 0..kills {
        let before = setup.copied();
        let mut child = job.command().spawn().expect("it starts");
        setup.wait_for_copies((before + rng.random_range(0..objects / kills)).min(objects - 1));
        std::thread::sleep(Duration::from_millis(rng.random_range(0..30)));
        child.kill().expect("killed");
        child.wait().expect("dead");
    }
    let run = job.run().expect(0);
    setup.assert_complete(&job).await;
    let lines = lines(&job);
    // Who was rewritten twice over would have more than two versions: there is a line for each, of what was answered or found.
    let keys: BTreeSet<_> = lines.iter().map(key_of).collect();
    assert_eq!(keys.len(), objects, "a rewrite without evidence");
    let answered = lines.iter().filter(|line| line["ToldBy"] == "answer");
    let answered: BTreeSet<_> = answered.map(key_of).collect();
    assert!(answered.len() as u64 >= run.count("succeeded"));
    // What an interruption has taken along is found again: it lies right below.
    for line in &lines {
        assert_eq!(line["BeforeKnown"], "true", "{line:?}");
        assert_eq!(
            line["RequestId"].is_empty(),
            line["ToldBy"] != "answer",
            "{line:?}"
        );
    }
    assert_true(&setup, &lines).await;
    // Written again, it is the same to the byte.
    let told = index(&job);
    let url = setup.store.s3.endpoint_url();
    fs::remove_dir_all(job.path("evidence")).expect("removed");
    write_again(&job);
    assert_eq!(index(&job), told);
    // And so is the way back.
    job.write("customer.key", KEY.base64());
    let told = undo(&job, &url, "").expect(0).summary();
    assert_eq!(told["failed"], 0, "{told}");
    let head = objects::head(&setup.store.client, "object/0", None).await;
    assert!(Under::SseS3.is_shown_by(&head));
}

/// Killed over and over, between a copy and the deletion of what it supersedes too: what is there now has one line each.
#[tokio::test]
async fn no_rewrite_has_two_lines_however_often_it_was_killed() {
    for (args, updates) in [
        ("--method copy --delete-superseded", false),
        (
            "--versions restack --method copy --delete-superseded",
            false,
        ),
        ("--versions restack --method copy", false),
        ("--versions restack --probe auto", true),
    ] {
        let setup = Versioned::with_objects(40).await;
        for key in &setup.keys {
            objects::put_plain(&setup.store.client, key, b"a newer version").await;
        }
        let before = setup.listed().await;
        let job = setup
            .job()
            .args("--rate 400 --evidence evidence --canary 0");
        let job = job.args(args);
        for _ in 0..4 {
            let writes = setup.store.writes();
            let mut child = job.command().spawn().expect("it starts");
            setup.wait_for_writes(writes + 25);
            child.kill().expect("killed");
            child.wait().expect("dead");
        }
        job.run().expect(0);
        let after = setup.listed().await;
        let lines = lines(&job);
        let mut left: Vec<_> = lines
            .iter()
            .map(|line| (key_of(line), line["AfterVersionId"].clone()))
            .collect();
        left.sort();
        let mut expected: Vec<_> = match updates {
            true => after,
            false => after.difference(&before).cloned().collect(),
        }
        .into_iter()
        .collect();
        expected.sort();
        assert_eq!(left, expected, "{args}");
    }
}

/// What was under the target all along, and was perhaps looked at when the run was killed, is not said to be rewritten, nor undone.
#[tokio::test]
async fn what_nobody_has_written_has_no_line() {
    let setup = Versioned::with_objects(60).await;
    let under = Under::Kms(setup.arn.clone());
    for key in &setup.keys {
        objects::put(&setup.store.client, key, key.as_bytes(), &under).await;
    }
    let before = setup.listed().await;
    let job = setup.job().args("--evidence evidence --method copy");
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        let looked = setup.store.s3.requests().values().sum::<u64>();
        let mut child = job
            .command()
            .args(["--request-rate", "60"])
            .spawn()
            .expect("it starts");
        let begun = Instant::now();
        while setup.store.s3.requests().values().sum::<u64>() < looked + 20 {
            assert!(begun.elapsed() < Duration::from_secs(60), "it looks");
            std::thread::sleep(Duration::from_millis(5));
        }
        send(&child, signal);
        child.wait().expect("dead");
    }
    let told = job.run().expect(0).summary();
    assert_eq!(told["skips"]["already-encrypted"], 60, "{told}");
    assert_eq!(setup.listed().await, before);
    assert_eq!(index(&job)["rewrites"], 0);
    job.write("customer.key", KEY.base64());
    undo(&job, &setup.store.s3.endpoint_url(), "").expect(0);
    assert_eq!(setup.listed().await, before);
}
