//! Completion reports as manifests.

use super::*;

#[test]
fn the_failed_rows_of_a_report_are_a_manifest() {
    let folder = Folder::new();
    let failed = b"src,a+b/%C3%A9,v1,failed,403,AccessDenied,\"Access \"\"Denied\"\", really\"\n\
        src,plain,,failed,0,NoAnswer,\r\nsrc,null,null,failed,404,NoSuchVersion,\"two\nlines\"\n";
    let done = b"src,done,,succeeded,200,,Successful\n";
    let path = report(
        &folder,
        &[
            ("succeeded", done),
            ("failed", failed),
            ("failed", b"src,more,,failed,500,X,\n"),
        ],
    );
    let rows: Vec<_> = rows_of(&path)
        .into_iter()
        .map(|row| (row.key, row.version_id))
        .collect();
    let row = |key: &str, version: Option<&str>| (key.to_owned(), version.map(str::to_owned));
    assert_eq!(
        rows,
        [
            row("a b/é", Some("v1")),
            row("plain", None),
            row("null", Some("null")),
            row("more", None),
        ]
    );
    for none in [&[][..], &[("succeeded", &done[..])], &[("failed", b"")]] {
        let prepared = prepare(&report(&folder, none)).expect("nothing is left to do");
        assert_eq!((prepared.rows, prepared.bucket.as_str()), (0, ""));
    }
}

#[test]
fn a_bad_row_of_a_report_is_named() {
    let folder = Folder::new();
    let table: [(&[u8], &str); 6] = [
        (
            b"b,k,,failed,1,x,\nb,l,,succeeded,200,,Successful\n",
            "p/job-1/results/0.csv:2: TaskStatus is \"succeeded\" in a file of failed rows",
        ),
        (
            b"Bucket,Key,VersionId,TaskStatus,HTTPStatusCode,ErrorCode,ResultMessage\n",
            "p/job-1/results/0.csv:1: TaskStatus is \"TaskStatus\"",
        ),
        (
            b"b,k,,failed,1,x\n",
            "p/job-1/results/0.csv:1: 6 columns where 7",
        ),
        (
            b"b,%,,failed,1,x,\n",
            "p/job-1/results/0.csv:1: bad percent-encoding",
        ),
        (
            b"b,,,failed,1,x,\n",
            "p/job-1/results/0.csv:1: the key is empty",
        ),
        (
            b"b,k,,failed,1,x,\nc,k,,failed,1,x,\n",
            "p/job-1/results/0.csv:2: bucket \"c\" where \"b\"",
        ),
    ];
    for (content, expected) in table {
        let error = prepare(&report(&folder, &[("failed", content)])).expect_err(expected);
        assert_eq!(error.exit(), Exit::Usage);
        assert!(error.to_string().starts_with(expected), "{error}");
    }
    let path = report(&folder, &[("failed", b"b,k,,failed,1,x,\n")]);
    folder.write("0.csv", b"b,K,,failed,1,x,\n");
    let error = prepare(&path).expect_err("another MD5").to_string();
    assert!(
        error.starts_with("p/job-1/results/0.csv: MD5 is "),
        "{error}"
    );
}
