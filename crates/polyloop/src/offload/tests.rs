//! Offload pools with real threads. Jobs are held and released by channels, never by time; a pool is at rest after its
//! shutdown, and only then are its counters compared.

use std::sync::mpsc;

use super::*;

/// Far enough that a test that reaches it has failed.
fn eventually() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

fn pools(cpu_threads: usize, cpu_queue: usize) -> OffloadPools {
    OffloadPools::start(&[
        PoolConfig::new("cpu", cpu_threads, cpu_queue),
        PoolConfig::new("blocking", 0, 8),
        PoolConfig::new("disk", 1, 1),
    ])
    .unwrap()
}

/// Occupies one thread of the cpu pool until the returned sender is used or dropped.
fn occupy(pools: &OffloadPools) -> mpsc::Sender<()> {
    let (release, held) = mpsc::channel();
    let (started, running) = mpsc::channel();
    let mut job: Job = Box::new(move || {
        started.send(()).unwrap();
        let _released = held.recv();
    });
    // Without a queue a job is taken only once the thread has come to rest.
    while let Err(error) = pools.submit(PoolId::CPU, job) {
        job = error.into_job();
        thread::yield_now();
    }
    running.recv().unwrap();
    release
}

#[test]
fn jobs_run_on_threads_that_bear_the_pools_name() {
    // Goal: work reaches the pool it was meant for. Method: jobs report the name of their thread.
    let pools = pools(1, 4);
    let disk = pools.find("disk").unwrap();
    assert_eq!(pools.find("tape"), None);
    assert_eq!(
        pools.iter().map(|(_, name)| name).collect::<Vec<_>>(),
        ["cpu", "blocking", "disk"]
    );
    let (report, reports) = mpsc::channel();
    for (pool, expected) in [(PoolId::CPU, "off-cpu-0"), (disk, "off-disk-0")] {
        let report = report.clone();
        let job = Box::new(move || {
            report
                .send(thread::current().name().map(String::from))
                .unwrap()
        });
        pools.submit(pool, job).unwrap();
        assert_eq!(reports.recv().unwrap().as_deref(), Some(expected));
    }
    assert_eq!(
        pools.shutdown(eventually()),
        ShutdownReport {
            dropped: 0,
            abandoned: 0
        }
    );
    assert_eq!(
        (pools.stats(disk).submitted, pools.stats(disk).done),
        (1, 1)
    );
    assert_eq!(
        (pools.queue_wait(disk).count(), pools.run_time(disk).count()),
        (1, 1)
    );
}

#[test]
fn a_full_pool_gives_the_job_back() {
    // Goal: no submission waits, none vanishes. Method: occupy the thread, fill the queue, submit once more and run what
    // comes back here.
    let pools = pools(1, 2);
    let release = occupy(&pools);
    let (report, reports) = mpsc::channel();
    let job = |n: u32| -> Job {
        let report = report.clone();
        Box::new(move || report.send(n).unwrap())
    };
    pools.submit(PoolId::CPU, job(1)).unwrap();
    pools.submit(PoolId::CPU, job(2)).unwrap();
    let refused = pools.submit(PoolId::CPU, job(3)).unwrap_err();
    assert!(matches!(refused, SubmitError::Full(_)));
    let stats = pools.stats(PoolId::CPU);
    assert_eq!(
        (stats.submitted, stats.refused, stats.queued, stats.running),
        (3, 1, 2, 1)
    );
    refused.into_job()();
    release.send(()).unwrap();
    assert_eq!([(); 3].map(|()| reports.recv().unwrap()), [3, 1, 2]);
}

#[test]
fn a_pool_without_queue_or_without_threads_is_bounded_too() {
    // Goal: the smallest bounds hold. Method: one thread and no queue; no thread and a queue that must not fill.
    let pools = pools(1, 0);
    let release = occupy(&pools);
    assert!(matches!(
        pools.submit(PoolId::CPU, Box::new(|| ())),
        Err(SubmitError::Full(_))
    ));
    assert!(matches!(
        pools.submit(PoolId::BLOCKING, Box::new(|| ())),
        Err(SubmitError::Full(_))
    ));
    assert_eq!(pools.stats(PoolId::BLOCKING).queued, 0);
    drop(release);
}

/// Panics when dropped, as a careless destructor does.
struct Grenade;

impl Drop for Grenade {
    fn drop(&mut self) {
        panic!("dropped");
    }
}

#[test]
fn a_panic_costs_one_job() {
    // Goal: the worker survives, also a panic whose payload panics again. Method: two such jobs, then one that reports, on
    // the only thread.
    let pools = pools(1, 4);
    pools
        .submit(PoolId::CPU, Box::new(|| panic!("a job's own fault")))
        .unwrap();
    pools
        .submit(PoolId::CPU, Box::new(|| std::panic::panic_any(Grenade)))
        .unwrap();
    let (report, reports) = mpsc::channel();
    pools
        .submit(PoolId::CPU, Box::new(move || report.send(()).unwrap()))
        .unwrap();
    reports.recv().unwrap();
    pools.shutdown(eventually());
    let stats = pools.stats(PoolId::CPU);
    assert_eq!(
        (stats.submitted, stats.done, stats.panicked, stats.running),
        (3, 1, 2, 0)
    );
    assert_eq!(pools.run_time(PoolId::CPU).count(), 3);
}

#[test]
fn shutdown_drops_the_queue_and_abandons_at_the_deadline() {
    // Goal: a shutdown is bounded, and says what it left. Method: one job held, three queued (one that panics when dropped), a
    // deadline that is over; then release the held one and shut down again.
    let pools = pools(1, 4);
    let release = occupy(&pools);
    let owned = Arc::new(());
    for _ in 0..2 {
        let owned = Arc::clone(&owned);
        pools
            .submit(PoolId::CPU, Box::new(move || drop(owned)))
            .unwrap();
    }
    let grenade = Grenade;
    pools
        .submit(PoolId::CPU, Box::new(move || std::mem::forget(grenade)))
        .unwrap();
    assert_eq!(
        pools.shutdown(Instant::now()),
        ShutdownReport {
            dropped: 3,
            abandoned: 1
        }
    );
    assert_eq!(
        Arc::strong_count(&owned),
        1,
        "what queued jobs owned is gone"
    );
    assert!(matches!(
        pools.submit(PoolId::CPU, Box::new(|| ())),
        Err(SubmitError::Closed(_))
    ));
    release.send(()).unwrap();
    assert_eq!(
        pools.shutdown(eventually()),
        ShutdownReport {
            dropped: 0,
            abandoned: 0
        }
    );
    let stats = pools.stats(PoolId::CPU);
    assert_eq!(
        (stats.submitted, stats.done, stats.dropped, stats.refused),
        (4, 1, 3, 1)
    );
    assert_eq!((stats.queued, stats.running), (0, 0));
}

#[test]
fn submitting_during_a_shutdown_loses_no_job() {
    // Goal: each job runs, is dropped, or comes back, and each is counted once. Method: three threads submit until they are
    // told that it is over, while a fourth shuts down; the counters have to add up afterwards.
    for _ in 0..50 {
        let pools = pools(2, 3);
        let owned = Arc::new(());
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    loop {
                        let owned = Arc::clone(&owned);
                        match pools.submit(PoolId::CPU, Box::new(move || drop(owned))) {
                            Err(SubmitError::Closed(_)) => break,
                            Ok(()) | Err(SubmitError::Full(_)) => {}
                        }
                    }
                });
            }
            scope.spawn(|| pools.shutdown(eventually()));
        });
        let stats = pools.stats(PoolId::CPU);
        assert_eq!(stats.submitted, stats.done + stats.dropped);
        assert_eq!((stats.queued, stats.running, stats.panicked), (0, 0, 0));
        assert_eq!(Arc::strong_count(&owned), 1);
    }
}

#[test]
fn names_are_checked_before_a_thread_is_started() {
    // Goal: a wrong configuration is an error, not a wrong pool. Method: missing, swapped, doubled and empty names.
    for names in [
        &["cpu"][..],
        &["blocking", "cpu"],
        &["cpu", "blocking", "cpu"],
        &["cpu", "blocking", ""],
    ] {
        let configs: Vec<_> = names
            .iter()
            .map(|&name| PoolConfig::new(name, 1, 1))
            .collect();
        let error = OffloadPools::start(&configs).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{names:?}");
    }
}
