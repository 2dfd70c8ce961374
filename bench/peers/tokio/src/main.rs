// SPDX-License-Identifier: BSD-2-Clause
//
// The work of ../../work.h in Rust on tokio: the same rows, keys and output.  Its threads are tasks without stacks: what is here an await inside
// one function cannot be a call of a function that blocks.  One worker is the current-thread runtime, more are the multi-thread one.
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::*};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, Mutex, Notify, Semaphore};
use tokio::task::{spawn, yield_now, JoinHandle};

#[derive(Clone, Default)]
struct Job {
    workers: i64,
    ops: i64,
    threads: i64,
    storm: i64,
    burst: i64,
    capacity: i64,
    hold: i64,
    samples: String,
}

fn fail(what: &str) -> ! {
    eprintln!("{what}");
    std::process::exit(1)
}

fn check(ok: bool, what: &str) {
    if !ok {
        fail(what)
    }
}

fn say(name: &str, value: f64, unit: &str) {
    println!("{name} {value:.3} {unit}")
}

fn cpu() -> f64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut t) };
    t.tv_sec as f64 + 1e-9 * t.tv_nsec as f64
}

struct Stopwatch {
    cpu: f64,
    wall: Instant,
}

impl Stopwatch {
    fn begin() -> Self {
        Stopwatch { cpu: cpu(), wall: Instant::now() }
    }
    fn say(&self, ops: i64) {
        let wall = self.wall.elapsed().as_secs_f64();
        let used = cpu() - self.cpu;
        say("ns_per_op", 1e9 * wall / ops as f64, "ns");
        say("cpu_ns_per_op", 1e9 * used / ops as f64, "ns");
        println!("seconds {wall:.6} s");
    }
}

fn since(t: Instant) -> u64 {
    t.elapsed().as_nanos() as u64
}

fn save(j: &Job, ns: &[u64]) {
    if !j.samples.is_empty() {
        let bytes: Vec<u8> = ns.iter().flat_map(|n| n.to_le_bytes()).collect();
        check(std::fs::write(&j.samples, bytes).is_ok(), "the samples cannot be written");
    }
}

/// Resident pages and the page tables that map them, in bytes.
fn resident() -> f64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_else(|_| fail("no /proc/self/status"));
    let kib: f64 = text
        .lines()
        .filter(|l| l.starts_with("VmRSS:") || l.starts_with("VmPTE:"))
        .filter_map(|l| l.split_whitespace().nth(1)?.parse::<f64>().ok())
        .sum();
    kib * 1024.0
}

async fn join_all(all: Vec<JoinHandle<()>>) {
    for t in all {
        check(t.await.is_ok(), "a task failed");
    }
}

fn compute(burst: Duration) {
    let begin = Instant::now();
    while begin.elapsed() < burst {}
}

/// Tasks that yield until end() is called, and compute between yields if the job says so.
struct Storm {
    over: Arc<AtomicBool>,
    all: Vec<JoinHandle<()>>,
}

impl Storm {
    fn begin(j: &Job) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let burst = Duration::from_micros(j.burst as u64);
        let all = (0..j.storm)
            .map(|_| {
                let over = over.clone();
                spawn(async move {
                    while !over.load(Relaxed) {
                        if burst != Duration::ZERO {
                            compute(burst);
                        }
                        yield_now().await
                    }
                })
            })
            .collect();
        Storm { over, all }
    }
    async fn end(self) {
        self.over.store(true, Relaxed);
        join_all(self.all).await
    }
}

async fn acquire(s: &Semaphore) {
    s.acquire().await.unwrap().forget()
}

async fn yields(j: Job) {
    let each = j.ops / j.threads;
    check(each > 0, "fewer operations than threads");
    let go = Arc::new(AtomicBool::new(false));
    let count = Arc::new(AtomicI64::new(0));
    let all = (0..j.threads)
        .map(|_| {
            let (go, count) = (go.clone(), count.clone());
            spawn(async move {
                while !go.load(Relaxed) {
                    yield_now().await
                }
                for _ in 0..each {
                    yield_now().await
                }
                count.fetch_add(each, Relaxed);
            })
        })
        .collect();
    yield_now().await;
    let time = Stopwatch::begin();
    go.store(true, Relaxed);
    join_all(all).await;
    time.say(each * j.threads / j.workers);
    check(count.load(Relaxed) == each * j.threads, "a thread did not end");
}

async fn park(j: Job) {
    let each = j.ops / 2;
    let seats = Arc::new([Notify::new(), Notify::new()]);
    let turns = Arc::new(AtomicI64::new(0));
    let play = |player: usize| {
        let (seats, turns) = (seats.clone(), turns.clone());
        async move {
            for _ in 0..each {
                while turns.load(Acquire) % 2 != player as i64 {
                    seats[player].notified().await
                }
                turns.store(turns.load(Relaxed) + 1, Release);
                seats[1 - player].notify_one();
            }
        }
    };
    let time = Stopwatch::begin();
    let all = vec![spawn(play(1)), spawn(play(0))];
    join_all(all).await;
    time.say(2 * each);
    check(turns.load(Relaxed) == 2 * each, "not every turn was taken");
}

async fn semaphore(j: Job) {
    let each = j.ops / 2;
    let gates = Arc::new([Semaphore::new(0), Semaphore::new(0)]);
    let turns = Arc::new(AtomicI64::new(0));
    let time = Stopwatch::begin();
    let other = {
        let (gates, turns) = (gates.clone(), turns.clone());
        spawn(async move {
            for _ in 0..each {
                acquire(&gates[0]).await;
                turns.store(turns.load(Relaxed) + 1, Relaxed);
                gates[1].add_permits(1);
            }
        })
    };
    for _ in 0..each {
        gates[0].add_permits(1);
        acquire(&gates[1]).await;
    }
    join_all(vec![other]).await;
    time.say(2 * each);
    check(turns.load(Relaxed) == each, "lost count");
}

async fn channel(j: Job) {
    let values = j.ops;
    let (send, mut receive) = mpsc::channel::<i64>(j.capacity as usize);
    let time = Stopwatch::begin();
    let receiver = spawn(async move {
        let mut sum = 0;
        while let Some(v) = receive.recv().await {
            sum += v
        }
        sum
    });
    let sender = spawn(async move {
        for i in 0..values {
            check(send.send(i).await.is_ok(), "the receiver is gone")
        }
    });
    join_all(vec![sender]).await;
    let sum = receiver.await.unwrap();
    time.say(values);
    check(sum == values * (values - 1) / 2, "a value was lost");
}

async fn create_join(j: Job) {
    let lived = Arc::new(AtomicI64::new(0));
    let time = Stopwatch::begin();
    for _ in 0..j.ops {
        let lived = lived.clone();
        join_all(vec![spawn(async move { lived.store(lived.load(Relaxed) + 1, Relaxed) })]).await;
    }
    time.say(j.ops);
    check(lived.load(Relaxed) == j.ops, "not every thread ran");
}

async fn create_detached(j: Job) {
    let batches = j.ops / j.threads;
    check(batches > 0, "fewer operations than threads");
    let ran: Arc<Vec<AtomicBool>> = Arc::new((0..j.threads).map(|_| AtomicBool::new(false)).collect());
    let time = Stopwatch::begin();
    for _ in 0..batches {
        for n in 0..ran.len() {
            ran[n].store(false, Relaxed);
            let ran = ran.clone();
            spawn(async move { ran[n].store(true, Relaxed) });
        }
        for flag in ran.iter() {
            while !flag.load(Relaxed) {
                yield_now().await
            }
        }
    }
    time.say(batches * j.threads);
}

fn sum_of_leaves(first: i64, leaves: i64) -> Pin<Box<dyn Future<Output = i64> + Send>> {
    Box::pin(async move {
        if leaves == 1 {
            return first;
        }
        let share = leaves / 10;
        let children: Vec<_> = (0..10).map(|i| spawn(sum_of_leaves(first + i * share, share))).collect();
        let mut sum = 0;
        for c in children {
            sum += c.await.unwrap()
        }
        sum
    })
}

async fn skynet(j: Job) {
    let mut right = true;
    let time = Stopwatch::begin();
    for _ in 0..j.ops {
        right &= sum_of_leaves(0, j.threads).await == j.threads * (j.threads - 1) / 2
    }
    time.say(j.ops * j.threads);
    check(right, "wrong sum");
}

async fn mutex_alone(j: Job) {
    let m = Mutex::new(0i64);
    let time = Stopwatch::begin();
    for _ in 0..j.ops {
        *m.lock().await += 1
    }
    time.say(j.ops);
    check(*m.lock().await == j.ops, "lost count");
}

async fn mutex(j: Job) {
    let each = j.ops / j.threads;
    check(each > 0, "fewer operations than threads");
    let go = Arc::new(AtomicBool::new(false));
    let count = Arc::new(Mutex::new(0i64));
    let all = (0..j.threads)
        .map(|_| {
            let (go, count, hold) = (go.clone(), count.clone(), j.hold);
            spawn(async move {
                while !go.load(Relaxed) {
                    yield_now().await
                }
                for n in 0..each {
                    let mut held = count.lock().await;
                    *held += 1;
                    if hold != 0 && n % hold == 0 {
                        yield_now().await
                    }
                }
            })
        })
        .collect();
    yield_now().await;
    let time = Stopwatch::begin();
    go.store(true, Relaxed);
    join_all(all).await;
    time.say(each * j.threads);
    check(*count.lock().await == each * j.threads, "lost count");
}

async fn memory(j: Job) {
    let gate = Arc::new(Semaphore::new(0));
    let begun = Arc::new(AtomicI64::new(0));
    let before = resident();
    let time = Stopwatch::begin();
    let all: Vec<_> = (0..j.threads)
        .map(|_| {
            let (gate, begun) = (gate.clone(), begun.clone());
            spawn(async move {
                begun.fetch_add(1, Relaxed);
                acquire(&gate).await
            })
        })
        .collect();
    while begun.load(Relaxed) < j.threads {
        yield_now().await
    }
    yield_now().await;
    say("bytes_per_thread", (resident() - before) / j.threads as f64, "B");
    say("create_ns", since(time.wall) as f64 / j.threads as f64, "ns");
    for _ in 0..j.threads {
        gate.add_permits(1)
    }
    join_all(all).await;
    say("seconds", time.wall.elapsed().as_secs_f64(), "s");
}

async fn sleepers(j: Job) {
    let nap = Duration::from_secs(1);
    let late: Arc<Vec<AtomicU64>> = Arc::new((0..j.threads).map(|_| AtomicU64::new(0)).collect());
    let time = Stopwatch::begin();
    let all = (0..late.len())
        .map(|i| {
            let late = late.clone();
            spawn(async move {
                let deadline = Instant::now() + nap;
                tokio::time::sleep_until(deadline.into()).await;
                check(Instant::now() >= deadline, "a sleeper woke before its deadline");
                late[i].store(since(deadline), Relaxed)
            })
        })
        .collect();
    join_all(all).await;
    let wall = time.wall.elapsed();
    say("overshoot_ms", 1e3 * (wall - nap).as_secs_f64(), "ms");
    say("cpu_ms", 1e3 * (cpu() - time.cpu), "ms");
    say("seconds", wall.as_secs_f64(), "s");
    save(&j, &late.iter().map(|n| n.load(Relaxed)).collect::<Vec<_>>());
}

/// Nanoseconds since the program began, for a stamp that one task writes and another reads.
fn stamp(zero: Instant) -> u64 {
    zero.elapsed().as_nanos() as u64
}

async fn handover_latency(j: Job) {
    let each = j.ops / 2;
    let gates = Arc::new([Semaphore::new(0), Semaphore::new(0)]);
    let opened = Arc::new(AtomicU64::new(0));
    let zero = Instant::now();
    let storm = Storm::begin(&j);
    let play = |me: usize| {
        let (gates, opened) = (gates.clone(), opened.clone());
        async move {
            let mut ns = Vec::with_capacity(each as usize);
            for i in 0..each {
                if me == 1 || i > 0 {
                    acquire(&gates[me]).await;
                    ns.push(stamp(zero) - opened.load(Relaxed))
                }
                opened.store(stamp(zero), Relaxed);
                gates[1 - me].add_permits(1)
            }
            ns
        }
    };
    let time = Stopwatch::begin();
    let other = spawn(play(1));
    let one = spawn(play(0));
    let mut ns = one.await.unwrap();
    ns.extend(other.await.unwrap());
    time.say(2 * each);
    storm.end().await;
    save(&j, &ns)
}

async fn wake_latency(j: Job) {
    let ops = j.ops;
    let bell = Arc::new(Semaphore::new(0));
    let opened = Arc::new(AtomicU64::new(0));
    let seen = Arc::new(AtomicI64::new(0));
    let zero = Instant::now();
    let storm = Storm::begin(&j);
    let time = Stopwatch::begin();
    let sleeper = {
        let (bell, opened, seen) = (bell.clone(), opened.clone(), seen.clone());
        spawn(async move {
            let mut ns = Vec::with_capacity(ops as usize);
            for i in 0..ops {
                acquire(&bell).await;
                ns.push(stamp(zero) - opened.load(Relaxed));
                seen.store(i + 1, Release)
            }
            ns
        })
    };
    let waker = spawn(async move {
        for i in 0..ops {
            tokio::time::sleep(Duration::from_micros(100)).await;
            while seen.load(Acquire) < i {
                yield_now().await
            }
            opened.store(stamp(zero), Relaxed);
            bell.add_permits(1)
        }
    });
    join_all(vec![waker]).await;
    let ns = sleeper.await.unwrap();
    time.say(ops);
    storm.end().await;
    save(&j, &ns)
}

async fn timer_latency(j: Job) {
    let ops = j.ops;
    let storm = Storm::begin(&j);
    let time = Stopwatch::begin();
    let sleeper = spawn(async move {
        let mut ns = Vec::with_capacity(ops as usize);
        for _ in 0..ops {
            let deadline = Instant::now() + Duration::from_millis(1);
            tokio::time::sleep_until(deadline.into()).await;
            ns.push(since(deadline))
        }
        ns
    });
    let ns = sleeper.await.unwrap();
    time.say(ops);
    storm.end().await;
    save(&j, &ns)
}

fn list() {
    println!("workers 64");
    for name in [
        "yield", "park", "semaphore", "channel_buffered", "create_join", "create_detached", "skynet", "mutex_alone", "mutex", "memory",
        "sleepers", "handover_latency", "wake_latency", "timer_latency",
    ] {
        println!("row {name}")
    }
    println!("note park its Notify");
    println!("note memory a task has no stack");
    println!("note sleepers its timers are of milliseconds");
    println!("note wake_latency its timers are of milliseconds");
    println!("note timer_latency its timers are of milliseconds");
    println!("lacks condvar has no condition variable");
    println!("lacks channel_rendezvous has no channel without a buffer")
}

async fn run(row: String, j: Job) {
    match row.as_str() {
        "yield" => yields(j).await,
        "park" => park(j).await,
        "semaphore" => semaphore(j).await,
        "channel_buffered" => channel(j).await,
        "create_join" => create_join(j).await,
        "create_detached" => create_detached(j).await,
        "skynet" => skynet(j).await,
        "mutex_alone" => mutex_alone(j).await,
        "mutex" => mutex(j).await,
        "memory" => memory(j).await,
        "sleepers" => sleepers(j).await,
        "handover_latency" => handover_latency(j).await,
        "wake_latency" => wake_latency(j).await,
        "timer_latency" => timer_latency(j).await,
        _ => fail("no such row"),
    }
}

fn parse(words: &[String]) -> Job {
    let mut j = Job { workers: 1, ops: 1000, threads: 2, ..Job::default() };
    for word in words {
        let (key, value) = word.split_once('=').unwrap_or_else(|| fail("usage: list | run ROW key=value..."));
        if key == "samples" {
            j.samples = value.to_string();
            continue;
        }
        let number = value.parse().unwrap_or_else(|_| fail("not a number"));
        match key {
            "workers" => j.workers = number,
            "ops" => j.ops = number,
            "threads" => j.threads = number,
            "storm" => j.storm = number,
            "burst" => j.burst = number,
            "capacity" => j.capacity = number,
            "hold" => j.hold = number,
            _ => {}
        }
    }
    j
}

fn main() {
    let words: Vec<String> = std::env::args().collect();
    if words.len() < 3 || words[1] != "run" {
        return list();
    }
    let j = parse(&words[3..]);
    let mut builder = if j.workers == 1 {
        tokio::runtime::Builder::new_current_thread()
    } else {
        tokio::runtime::Builder::new_multi_thread()
    };
    let runtime = builder.worker_threads(j.workers as usize).enable_time().build().unwrap();
    // As a task: the main future of the multi-thread runtime is on no worker.
    runtime.block_on(async { spawn(run(words[2].clone(), j)).await.unwrap_or_else(|_| fail("a task failed")) });
}
