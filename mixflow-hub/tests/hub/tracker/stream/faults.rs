//! Runs go on, and nothing is lost, whatever a server does.

use std::time::Instant;

use mixflow_hub::tracker::Trackers;

use super::*;

#[test]
fn what_passes_is_waited_for() {
    for fault in
        [Fault::Status(500), Fault::Status(503), Fault::Status(408), Fault::Later(429, 0), Fault::Cut, Fault::Lost]
    {
        let (folder, server) = (tempfile::tempdir().unwrap(), Server::start());
        let early = ["/graphql", "/graphql", "/storage/", "/file_stream", "/file_stream"];
        for part in early.into_iter().chain(["/graphql", "/storage/media", "/file_stream"]) {
            server.fault(part, fault);
        }
        let mut tracker = open(folder.path(), &server.address);
        run(&mut tracker, |steps| {
            // Each after all that went wrong before it; the last row may still grow.
            server.wait(|run| run.well && run.history.len() as u64 == steps - 1);
            if steps == 100 {
                server.fault("", fault);
            }
        });
        let warnings = tracker.warnings();
        assert!(warnings.len() == 1 && warnings[0].contains("what is to be sent waits in"), "{warnings:?}");
        drop(tracker);
        let run = server.run();
        assert_eq!(losses(&run.rows()), expected(&[(0..50, 1.0), (50..100, 2.0)]), "{fault:?}");
        assert_eq!((run.exit, run.files.len()), (Some(0), 4), "{fault:?}");
    }
}

#[test]
fn a_server_that_fails_at_the_end_is_waited_for() {
    let (folder, server) = (tempfile::tempdir().unwrap(), Server::start());
    let mut tracker = open(folder.path(), &server.address);
    run(&mut tracker, |steps| {
        server.wait(|run| run.well && run.history.len() as u64 == steps - 1);
        if steps == 100 {
            for _ in 0..12 {
                server.fault("", Fault::Status(503));
            }
        }
    });
    drop(tracker);
    let run = server.run();
    assert_eq!(losses(&run.rows()), expected(&[(0..50, 1.0), (50..100, 2.0)]));
    assert_eq!(run.exit, Some(0));
}

#[test]
fn a_server_that_asks_to_wait_is_given_the_time() {
    let (folder, server) = (tempfile::tempdir().unwrap(), Server::start());
    server.fault("/file_stream", Fault::Later(429, 1));
    let start = Instant::now();
    whole(&mut open(folder.path(), &server.address));
    // Otherwise it would be asked again after a millisecond.
    assert!(server.run().exit == Some(0) && start.elapsed() >= Duration::from_secs(1));
}

#[test]
fn a_server_that_asks_for_no_time_gets_some() {
    let (folder, server) = (tempfile::tempdir().unwrap(), Server::start());
    for _ in 0..4 {
        server.fault("/file_stream", Fault::Later(503, 0));
    }
    let first_wait = Duration::from_millis(100);
    let tracker = Wandb::open(folder.path(), &WandbRun::new("digits")).unwrap();
    let to = to(&server.address).patience(mixflow_hub::Patience { first_wait, ..hasty() });
    let start = Instant::now();
    whole(&mut tracker.live(to).unwrap());
    // Twice as long each time: 1, 2, 4 and 8 tenths of a second, of which the end of the run may cut the first.
    assert_eq!(server.run().exit, Some(0));
    assert!(start.elapsed() >= 14 * first_wait, "{:?}", start.elapsed());
}

#[test]
fn a_server_that_hangs_holds_no_run_up() {
    let (folder, server) = (tempfile::tempdir().unwrap(), Server::start());
    server.fault("", Fault::Hang);
    let tracker = Wandb::open(folder.path(), &WandbRun::new("digits")).unwrap();
    let mut tracker = tracker.live(to(&server.address).closing(Duration::from_millis(10))).unwrap();
    tracker.track(Entry::Started { step: 0 }).unwrap();
    server.wait(|run| run.held == 1);
    whole(&mut tracker);
    // The run is through, and the server has still not answered the first request.
    assert_eq!(server.run().held, 1);
    let warnings = tracker.warnings();
    let folder_of_run = tracker.folder().display().to_string();
    assert!(warnings.len() == 1 && warnings[0].contains(&format!("`wandb sync {folder_of_run}`")), "{warnings:?}");
    let log = log(&tracker);
    drop(tracker);
    let written = fs::read(&log).unwrap();
    server.release();

    // The next process sends what is missing, and the log is what it would be without a server.
    let mut tracker = open(folder.path(), &server.address);
    tracker.track(Entry::Started { step: 100 }).unwrap();
    tracker.track(Entry::Finished(End::Done)).unwrap();
    assert_eq!(losses(&server.run().rows()), expected(&[(0..50, 1.0), (50..100, 2.0)]));
    assert_eq!(server.run().exit, Some(0));
    let now = fs::read(&log).unwrap();
    // All but the exit, which is written anew.
    assert!(now[..written.len() - 60] == written[..written.len() - 60] && tracker.warnings().is_empty());
}

#[test]
fn a_server_that_is_away_is_told_later() {
    let folder = tempfile::tempdir().unwrap();
    // Nobody listens there any more.
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut trackers = Trackers::default();
    trackers.add(
        Wandb::open(folder.path(), &WandbRun::new("digits")).and_then(|run| run.live(to(&format!("http://{gone}")))),
    );
    trackers.track(Entry::Started { step: 0 });
    for step in 0..10 {
        trackers.track(Entry::Scalars { step, values: &[("loss", 1.0)] });
    }
    trackers.track(Entry::Finished(End::Stopped));
    let warnings = trackers.finish();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(
        warnings[0].starts_with(&format!("cannot reach {gone}")) && warnings[0].contains("waits in"),
        "{warnings:?}"
    );
    assert!(warnings[1].contains("`wandb sync "), "{warnings:?}");

    let server = Server::start();
    let mut tracker = open(folder.path(), &server.address);
    tracker.track(Entry::Started { step: 10 }).unwrap();
    scalars(&mut tracker, 10..20, 2.0);
    tracker.track(Entry::Finished(End::Failed)).unwrap();
    assert_eq!(losses(&server.run().rows()), expected(&[(0..10, 1.0), (10..20, 2.0)]));
    assert_eq!(server.run().exit, Some(1));
    once(&server);
}

#[test]
fn a_refusal_is_said_once_and_asked_no_more() {
    for (part, fault, words) in [
        ("/graphql", Fault::Status(401), "does not accept the key in WANDB_API_KEY (no, *** isno key)"),
        ("/graphql", Fault::Status(404), "/graphql answered 404"),
        ("/file_stream", Fault::Status(403), "/file_stream answered 403"),
        ("/file_stream", Fault::Status(413), "/file_stream answered 413"),
        ("/storage/", Fault::Status(400), "answered 400"),
    ] {
        let (folder, server) = (tempfile::tempdir().unwrap(), Server::start());
        server.fault(part, fault);
        let mut tracker = open(folder.path(), &server.address);
        whole(&mut tracker);
        let warnings = tracker.warnings();
        assert!(warnings.len() == 1 && warnings[0].contains(words), "{warnings:?}");
        assert!(warnings[0].contains("`wandb sync ") && !warnings[0].contains(KEY), "{warnings:?}");
        assert!(server.run().requests.last().unwrap().contains(part));
        assert!(fs::metadata(log(&tracker)).unwrap().len() > 5000 && server.run().exit.is_none());
    }
}
