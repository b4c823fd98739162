//! Threads that share the tiles of one operator at a time.
//!
//! Where:  made once by the caller, passed to every kernel that is worth splitting.
//! Idea:   one word holds the job's number, its next tile and how many helpers are inside. Entering and taking a tile are one
//!         exchange on it, so a helper that comes late finds nothing and is never waited for. Helpers spin for some microseconds
//!         after a job, then sleep.
//! Elsewhere: how an operator is cut into tiles; that is the kernel's business, and results never depend on who takes which.
//!
//! # Invariants
//! - The closure of a job is called only between `publish` and the end of `run`: a helper is counted inside before it looks.
//! - A helper that kept the caller waiting is left out for some milliseconds.

use std::any::Any;
use std::cell::UnsafeCell;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long a helper looks for work before it sleeps.
const SPIN: Duration = Duration::from_micros(60);
/// How long the caller waits for a helper's tile, or four times as long as its own took, before it sleeps itself and leaves the
/// helper out next time.
const PATIENCE: Duration = Duration::from_micros(200);
/// How long a helper that was late is left out.
const LEFT_OUT: Duration = Duration::from_millis(20);

/// A pool of threads, of which the caller of [`run`](Self::run) is one.
pub struct Pool {
    shared: Arc<Shared>,
    helpers: Vec<Helper>,
    /// Held while a job runs; who finds it taken works alone.
    running: Mutex<()>,
    scratch: Mutex<Vec<crate::AlignedBytes>>,
}

struct Helper {
    state: Arc<HelperState>,
    thread: Option<JoinHandle<()>>,
}

struct HelperState {
    asleep: AtomicBool,
    inside: AtomicBool,
    /// Nanoseconds since the pool's start until which this helper takes no tiles.
    left_out_until: AtomicU64,
}

type Job = dyn Fn(usize) + Sync;

struct Shared {
    /// Next tile (32 bits), helpers inside (16), number of the job (16). Tiles stand at `CLOSED` between jobs.
    word: AtomicU64,
    n_tasks: AtomicU32,
    job: UnsafeCell<Option<*const Job>>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    stop: AtomicBool,
    start: Instant,
}

// SAFETY: `job` is written only while no helper is inside and none can enter, and read only by helpers inside.
unsafe impl Sync for Shared {}
// SAFETY: the pointer in `job` is used only while the `run` that made it is on the stack.
unsafe impl Send for Shared {}

const CLOSED: u64 = u32::MAX as u64;
const ONE_INSIDE: u64 = 1 << 32;
const ONE_JOB: u64 = 1 << 48;

impl Pool {
    /// A pool in which `n_threads` threads work, the caller among them; `n_threads - 1` are started.
    pub fn new(n_threads: usize) -> Self {
        assert!((1..=4096).contains(&n_threads), "a pool has 1 to 4096 threads, not {n_threads}");
        let shared = Arc::new(Shared {
            word: AtomicU64::new(CLOSED),
            n_tasks: AtomicU32::new(0),
            job: UnsafeCell::new(None),
            panic: Mutex::new(None),
            stop: AtomicBool::new(false),
            start: Instant::now(),
        });
        let helpers = (1..n_threads).filter_map(|i| Helper::start(i, &shared)).collect();
        Pool { shared, helpers, running: Mutex::new(()), scratch: Mutex::new(Vec::new()) }
    }

    /// How many threads work, the caller included.
    pub fn threads(&self) -> usize {
        self.helpers.len() + 1
    }

    /// Calls `task(0)` to `task(n_tasks - 1)`, each once, in any order and on any thread, and returns when all are done.
    ///
    /// A panic in a task is passed on to the caller after the others have ended. A call from inside a task, or
    /// while another thread's call is running, does all its tasks on the calling thread.
    pub fn run(&self, n_tasks: usize, task: impl Fn(usize) + Sync) {
        let alone = || (0..n_tasks).for_each(&task);
        if n_tasks < 2 || self.helpers.is_empty() {
            return alone();
        }
        let Ok(running) = self.running.try_lock() else { return alone() };
        let n_tasks = u32::try_from(n_tasks).ok().filter(|&n| n < u32::MAX / 2).expect("tiles are few");
        self.publish(n_tasks, &task);
        let (start, mut n_mine) = (Instant::now(), 0);
        let mine = catch_unwind(AssertUnwindSafe(|| {
            while let Some(index) = self.shared.next_task() {
                task(index);
                n_mine += 1;
            }
        }));
        if mine.is_err() {
            // The remaining tiles are not worth doing.
            self.shared.exhaust();
        }
        // A tile takes as long as ours did on average, a few times that at most.
        self.close(PATIENCE.max(4 * start.elapsed() / n_mine.max(1)));
        drop(running);
        let theirs = lock(&self.shared.panic).take();
        if let Err(panic) = mine {
            resume_unwind(panic);
        }
        if let Some(panic) = theirs {
            resume_unwind(panic);
        }
    }

    /// Splits `out` into rows of `row_len` and calls `task(first_row, rows)` for every `rows_per_task` of them.
    pub fn rows<T: Send>(
        &self,
        out: &mut [T],
        row_len: usize,
        rows_per_task: usize,
        task: impl Fn(usize, &mut [T]) + Sync,
    ) {
        if out.is_empty() {
            return;
        }
        assert!(
            row_len > 0 && out.len().is_multiple_of(row_len),
            "rows: {} is no multiple of {row_len}",
            out.len()
        );
        let n_rows = out.len() / row_len;
        let step = rows_per_task.max(1);
        let out = SharedSlice::new(out);
        self.run(n_rows.div_ceil(step), |i| {
            let rows = i * step..((i + 1) * step).min(n_rows);
            // SAFETY: every task index comes once, and tasks' rows do not overlap.
            let part = unsafe { out.slice(rows.start * row_len..rows.end * row_len) };
            task(rows.start, part);
        });
    }

    /// Calls `use_it` with a buffer of at least `len` bytes of any content, kept from call to call.
    pub(crate) fn with_scratch<R>(&self, len: usize, use_it: impl FnOnce(&mut [u8]) -> R) -> R {
        let kept = lock(&self.scratch).pop().filter(|bytes| bytes.len() >= len);
        let mut bytes = kept.unwrap_or_else(|| crate::AlignedBytes::zeroed(len.next_power_of_two()));
        let result = use_it(&mut bytes[..len]);
        // What is large is given back to the system; what is small is worth keeping.
        if bytes.len() <= 64 << 20 {
            lock(&self.scratch).push(bytes);
        }
        result
    }

    fn publish<'a>(&self, n_tasks: u32, task: &'a (dyn Fn(usize) + Sync + 'a)) {
        // SAFETY: only the lifetime is forgotten; `run` does not return before `close` has seen every helper leave.
        let task: *const Job =
            unsafe { std::mem::transmute::<&'a (dyn Fn(usize) + Sync + 'a), &'static Job>(task) };
        // SAFETY: no job is open and `running` is held, so no other thread looks at it.
        unsafe { *self.shared.job.get() = Some(task) };
        self.shared.n_tasks.store(n_tasks, Ordering::Relaxed);
        let number = self.shared.word.load(Ordering::Relaxed) >> 48;
        self.shared.word.store(number.wrapping_add(1).wrapping_mul(ONE_JOB), Ordering::Release);
        // A helper says that it sleeps before it looks a last time; one of the two sees the other.
        fence(Ordering::SeqCst);
        let mut wanted = n_tasks - 1;
        for helper in &self.helpers {
            if wanted == 0 {
                break;
            }
            let left_out = helper.state.left_out_until.load(Ordering::Relaxed);
            if left_out > 0 && left_out > self.shared.nanos() {
                continue;
            }
            wanted -= 1;
            if helper.state.asleep.load(Ordering::Relaxed)
                && let Some(thread) = &helper.thread
            {
                thread.thread().unpark();
            }
        }
    }

    /// Waits until no helper is inside, then closes the job.
    fn close(&self, patience: Duration) {
        let inside = || self.shared.word.load(Ordering::Acquire) >> 32 & 0xffff != 0;
        let mut waiting = None;
        let mut spins = 0_u32;
        while inside() {
            spins += 1;
            std::hint::spin_loop();
            if !spins.is_multiple_of(64) {
                continue;
            }
            let since = *waiting.get_or_insert_with(Instant::now);
            if since.elapsed() > patience {
                let until = self.shared.nanos() + LEFT_OUT.as_nanos() as u64;
                for helper in self.helpers.iter().filter(|helper| helper.state.inside.load(Ordering::Relaxed))
                {
                    helper.state.left_out_until.store(until, Ordering::Relaxed);
                }
                // Asleep, this core is free for the helper that was pushed off its own.
                thread::sleep(Duration::from_micros(50));
            }
        }
        let number = self.shared.word.load(Ordering::Relaxed) & !(ONE_JOB - 1);
        self.shared.word.store(number | CLOSED, Ordering::Release);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for helper in &mut self.helpers {
            if let Some(thread) = helper.thread.take() {
                thread.thread().unpark();
                // Its panics were handed to the caller of `run`.
                let _ = thread.join();
            }
        }
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pool({} threads)", self.threads())
    }
}

impl Helper {
    /// `None` where the system grants no further thread: the pool is then smaller.
    fn start(index: usize, shared: &Arc<Shared>) -> Option<Self> {
        let state = Arc::new(HelperState {
            asleep: AtomicBool::new(false),
            inside: AtomicBool::new(false),
            left_out_until: AtomicU64::new(0),
        });
        let (shared, its_state) = (Arc::clone(shared), Arc::clone(&state));
        let builder = thread::Builder::new().name(format!("wootz-{index}"));
        let thread = builder.spawn(move || help(&shared, &its_state)).ok()?;
        Some(Helper { state, thread: Some(thread) })
    }
}

fn help(shared: &Shared, state: &HelperState) {
    let mut idle_since = Instant::now();
    let mut spins = 0_u32;
    while !shared.stop.load(Ordering::Relaxed) {
        let left_out = state.left_out_until.load(Ordering::Relaxed);
        let nap = if left_out == 0 { 0 } else { left_out.saturating_sub(shared.nanos()) };
        if nap > 0 {
            thread::park_timeout(Duration::from_nanos(nap));
            continue;
        }
        if let Some(first) = shared.enter() {
            state.inside.store(true, Ordering::Relaxed);
            work(shared, first);
            state.inside.store(false, Ordering::Relaxed);
            shared.word.fetch_sub(ONE_INSIDE, Ordering::Release);
            idle_since = Instant::now();
            continue;
        }
        spins = spins.wrapping_add(1);
        std::hint::spin_loop();
        if !spins.is_multiple_of(64) || idle_since.elapsed() < SPIN {
            continue;
        }
        state.asleep.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if !shared.is_open() && !shared.stop.load(Ordering::SeqCst) {
            thread::park();
        }
        state.asleep.store(false, Ordering::Relaxed);
        idle_since = Instant::now();
    }
}

/// Does tile `first` and then others until none is left. The caller has entered.
fn work(shared: &Shared, first: usize) {
    // SAFETY: this helper is inside, so the job was published and `run` waits for it.
    let Some(job) = (unsafe { *shared.job.get() }) else { return };
    // SAFETY: the closure lives on the stack of the waiting `run`.
    let job = unsafe { &*job };
    let result = catch_unwind(AssertUnwindSafe(|| {
        let mut next = Some(first);
        while let Some(index) = next {
            job(index);
            next = shared.next_task();
        }
    }));
    if let Err(panic) = result {
        lock(&shared.panic).get_or_insert(panic);
        shared.exhaust();
    }
}

impl Shared {
    fn is_open(&self) -> bool {
        self.word.load(Ordering::Acquire) & CLOSED < u64::from(self.n_tasks.load(Ordering::Relaxed))
    }

    /// Counts this helper inside and takes a tile, in one exchange; `None` if there is none.
    fn enter(&self) -> Option<usize> {
        let word = self.word.load(Ordering::Acquire);
        if word & CLOSED >= u64::from(self.n_tasks.load(Ordering::Relaxed)) {
            return None;
        }
        let entered = word + ONE_INSIDE + 1;
        self.word.compare_exchange(word, entered, Ordering::AcqRel, Ordering::Relaxed).ok()?;
        // The number of tiles may have been read before this job: inside, it cannot change any more.
        let index = word & CLOSED;
        if index >= u64::from(self.n_tasks.load(Ordering::Acquire)) {
            self.word.fetch_sub(ONE_INSIDE, Ordering::Release);
            return None;
        }
        Some(index as usize)
    }

    fn next_task(&self) -> Option<usize> {
        let index = self.word.fetch_add(1, Ordering::Relaxed) & CLOSED;
        (index < u64::from(self.n_tasks.load(Ordering::Relaxed))).then_some(index as usize)
    }

    /// Leaves no tile of the open job.
    fn exhaust(&self) {
        let n_tasks = u64::from(self.n_tasks.load(Ordering::Relaxed));
        let update = |word: u64| Some((word & !CLOSED) | (word & CLOSED).max(n_tasks));
        let _ = self.word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update); // always `Some`
    }

    fn nanos(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A mutable slice of which tasks take parts that do not overlap.
pub(crate) struct SharedSlice<'a, T> {
    start: *mut T,
    len: usize,
    owner: std::marker::PhantomData<&'a mut [T]>,
}

impl<T> Clone for SharedSlice<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for SharedSlice<'_, T> {}

// SAFETY: parts are handed out as if by `split_at_mut`, which `T: Send` allows across threads.
unsafe impl<T: Send> Sync for SharedSlice<'_, T> {}
// SAFETY: it is a `&mut [T]`.
unsafe impl<T: Send> Send for SharedSlice<'_, T> {}

impl<'a, T> SharedSlice<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        SharedSlice { start: slice.as_mut_ptr(), len: slice.len(), owner: std::marker::PhantomData }
    }

    /// A part of the slice.
    ///
    /// # Safety
    /// No two parts that are alive at the same time may overlap.
    pub(crate) unsafe fn slice(&self, range: Range<usize>) -> &'a mut [T] {
        assert!(range.start <= range.end && range.end <= self.len, "part {range:?} of {}", self.len);
        // SAFETY: inside the slice; the caller promises that it is borrowed once.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once_whatever_the_threads() {
        for n_threads in [1, 2, 3, 8] {
            let pool = Pool::new(n_threads);
            for n_tasks in (0..40).chain([1000]) {
                let counts: Vec<AtomicU32> = (0..n_tasks).map(|_| AtomicU32::new(0)).collect();
                pool.run(n_tasks, |i| {
                    counts[i].fetch_add(1, Ordering::Relaxed);
                });
                assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1));
            }
        }
    }

    #[test]
    fn many_short_jobs_with_pauses_lose_nothing() {
        let pool = Pool::new(3);
        let total = AtomicU64::new(0);
        for round in 0..20_000_u64 {
            pool.run(5, |i| {
                total.fetch_add(i as u64, Ordering::Relaxed);
            });
            if round.is_multiple_of(1000) {
                thread::sleep(Duration::from_micros(300)); // long enough for helpers to fall asleep
            }
        }
        assert_eq!(total.into_inner(), 20_000 * 10);
    }

    #[test]
    fn rows_are_split_without_gap_or_overlap() {
        let pool = Pool::new(2);
        let mut out = vec![0.0_f32; 7 * 3];
        pool.rows(&mut out, 3, 2, |first, rows| {
            for (i, row) in rows.chunks_mut(3).enumerate() {
                row.fill((first + i) as f32);
            }
        });
        assert!(out.iter().enumerate().all(|(i, &x)| x == (i / 3) as f32));
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_still_works() {
        let pool = Pool::new(2);
        for bad in [0, 7] {
            let result = catch_unwind(AssertUnwindSafe(|| {
                pool.run(8, |i| {
                    thread::sleep(Duration::from_micros(50));
                    assert_ne!(i, bad, "tile {i}");
                });
            }));
            assert!(result.is_err());
            let sum = AtomicU64::new(0);
            pool.run(8, |i| {
                sum.fetch_add(i as u64, Ordering::Relaxed);
            });
            assert_eq!(sum.into_inner(), 28);
        }
    }

    #[test]
    fn a_call_from_inside_a_task_works_alone() {
        let pool = Pool::new(2);
        let sum = AtomicU64::new(0);
        pool.run(4, |_| {
            pool.run(4, |j| {
                sum.fetch_add(j as u64, Ordering::Relaxed);
            });
        });
        assert_eq!(sum.into_inner(), 24);
    }
}
