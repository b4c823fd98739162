//! What this machine has: cores, caches, memory, disks, graphics cards. Only looked at, never changed.
//!
//! Where:  `doctor` shows it; `pull` asks for disk space; threads and instruction set for every model are chosen from it.
//! Idea:   an unknown is `None`, never a guess. Linux tells the most, through `/proc` and `/sys`.
//! Source: Linux's `Documentation/ABI/stable/sysfs-devices-system-cpu`, `admin-guide/cgroup-v2`, `vm/transhuge`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use wootz_kernels::{Isa, Level};

/// The processor.
#[derive(Debug)]
pub struct Cpu {
    pub name: Option<String>,
    /// Logical processors that this process may use.
    pub n_logical: usize,
    /// Physical cores of the machine, of which a container may have fewer.
    pub n_cores: Option<usize>,
    pub caches: Vec<Cache>,
}

/// One level of cache, as one core sees it.
#[derive(Debug, PartialEq, Eq)]
pub struct Cache {
    /// `L1d`, `L1i`, `L2`, `L3`.
    pub name: String,
    pub size_bytes: u64,
    /// Logical processors that share it.
    pub shared_by: Option<usize>,
}

/// Main memory.
#[derive(Debug)]
pub struct Memory {
    pub total_bytes: Option<u64>,
    /// What new programs can have without swapping.
    pub available_bytes: Option<u64>,
    /// A container's limit, when it is below the total.
    pub limit_bytes: Option<u64>,
    /// `always`, `madvise` or `never`.
    pub transparent_huge_pages: Option<String>,
    pub reserved_huge_pages: Option<u64>,
}

/// A graphics card, or rather the driver that would make it usable.
#[derive(Debug)]
pub struct Gpu {
    /// `NVIDIA`, `AMD`, `Vulkan`.
    pub kind: &'static str,
    pub library: PathBuf,
    /// What the driver says of itself, or why it cannot be used.
    pub note: String,
}

/// Threads that compute: one per core, since two on one core share its arithmetic units.
pub fn compute_threads(cpu: &Cpu) -> usize {
    cpu.n_cores.map_or(cpu.n_logical, |n_cores| n_cores.min(cpu.n_logical)).max(1)
}

impl Cpu {
    /// Looks at the processor.
    pub fn detect() -> Self {
        let info = read("/proc/cpuinfo").unwrap_or_default();
        let n_logical = std::thread::available_parallelism().map_or(1, |n| n.get());
        Self { name: cpu_name(&info), n_logical, n_cores: n_cores(), caches: caches() }
    }
}

impl Memory {
    /// Looks at the memory.
    pub fn detect() -> Self {
        let info = read("/proc/meminfo").unwrap_or_default();
        let total_bytes = meminfo(&info, "MemTotal").map(|kib| kib * 1024);
        let limit = read("/sys/fs/cgroup/memory.max").and_then(|text| text.trim().parse().ok());
        let modes = read("/sys/kernel/mm/transparent_hugepage/enabled");
        Self {
            total_bytes,
            available_bytes: meminfo(&info, "MemAvailable").map(|kib| kib * 1024),
            limit_bytes: limit.filter(|limit| total_bytes.is_none_or(|total| *limit < total)),
            transparent_huge_pages: modes.as_deref().and_then(chosen_mode).map(str::to_owned),
            reserved_huge_pages: meminfo(&info, "HugePages_Total"),
        }
    }
}

/// Graphics drivers that are installed.
pub fn gpus() -> Vec<Gpu> {
    let nvidia_version = read("/proc/driver/nvidia/version");
    let nvidia_note = match (
        nvidia_version.as_deref().and_then(|v| v.lines().next()),
        Path::new("/dev/nvidia0").exists(),
    ) {
        (Some(version), true) => version.trim().to_owned(),
        _ => "no card: /dev/nvidia0 or the kernel driver is missing".into(),
    };
    let amd_note =
        if Path::new("/dev/kfd").exists() { "kernel driver present" } else { "no card: /dev/kfd is missing" };
    let nodes = fs::read_dir("/dev/dri").into_iter().flatten().flatten();
    let n_nodes = nodes.filter(|node| node.file_name().to_string_lossy().starts_with("renderD")).count();
    let vulkan_note =
        if n_nodes == 0 { "no render node in /dev/dri".into() } else { format!("{n_nodes} render nodes") };
    [
        ("NVIDIA", "libcuda.so.1", nvidia_note),
        ("AMD", "libamdhip64.so", amd_note.to_owned()),
        ("Vulkan", "libvulkan.so.1", vulkan_note),
    ]
    .into_iter()
    .filter_map(|(kind, library, note)| Some(Gpu { kind, library: find_library(library)?, note }))
    .collect()
}

/// Bytes free for us on the disk that holds `path`, or would hold it.
pub fn free_bytes(path: &Path) -> Option<u64> {
    let existing = path.ancestors().find(|ancestor| ancestor.exists())?;
    #[cfg(unix)]
    {
        let stat = rustix::fs::statvfs(existing).ok()?;
        stat.f_bavail.checked_mul(stat.f_frsize)
    }
    #[cfg(not(unix))]
    {
        let _unknown_here = existing;
        None
    }
}

/// Bytes of this process that are in memory.
pub fn resident_bytes() -> Option<u64> {
    meminfo(&read("/proc/self/status")?, "VmRSS").map(|kib| kib * 1024)
}

/// The instruction set by its common name.
pub fn instructions(isa: Isa) -> &'static str {
    match isa.level() {
        Level::Avx512 => "AVX-512 VNNI",
        Level::Avx2 => "AVX2 FMA F16C",
        Level::Neon => "NEON",
        Level::Scalar => "scalar",
    }
}

// --- files that Linux keeps about itself ------------------------------------------------------------------------

/// A small file as text.
fn read(path: impl AsRef<Path>) -> Option<String> {
    fs::read_to_string(path).ok()
}

fn cpu_name(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name") || line.starts_with("Model"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Distinct groups of logical processors that share a core.
fn n_cores() -> Option<usize> {
    let cpus = fs::read_dir("/sys/devices/system/cpu").ok()?.flatten();
    let siblings = cpus.filter_map(|cpu| read(cpu.path().join("topology/thread_siblings_list")));
    let cores: BTreeSet<String> = siblings.collect();
    (!cores.is_empty()).then_some(cores.len())
}

fn caches() -> Vec<Cache> {
    let indices =
        (0..8).map(|index| PathBuf::from(format!("/sys/devices/system/cpu/cpu0/cache/index{index}")));
    let cache = |folder: PathBuf| {
        let text = |file: &str| read(folder.join(file)).map(|text| text.trim().to_owned());
        let kind = match text("type")?.as_str() {
            "Data" => "d",
            "Instruction" => "i",
            _ => "",
        };
        let shared_by = text("shared_cpu_list").and_then(|list| list_len(&list));
        Some(Cache {
            name: format!("L{}{kind}", text("level")?),
            size_bytes: size(&text("size")?)?,
            shared_by,
        })
    };
    indices.filter_map(cache).collect()
}

/// `0-3,8` → 5.
fn list_len(list: &str) -> Option<usize> {
    let len = |part: &str| match part.split_once('-') {
        Some((first, last)) => Some(last.parse::<usize>().ok()?.checked_sub(first.parse().ok()?)? + 1),
        None => part.parse::<usize>().ok().map(|_| 1),
    };
    list.split(',').map(len).sum()
}

/// `32768K` → 33554432.
fn size(text: &str) -> Option<u64> {
    let (digits, factor) = match text.strip_suffix(['K', 'M', 'G']) {
        Some(digits) => (digits, 1 << (10 * (1 + "KMG".find(&text[digits.len()..])?))),
        None => (text, 1),
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

/// `MemTotal:  123 kB` → 123.
fn meminfo(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.split(':').next() == Some(key))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// `always [madvise] never` → `madvise`.
fn chosen_mode(modes: &str) -> Option<&str> {
    modes.split_once('[')?.1.split_once(']').map(|(mode, _)| mode)
}

/// A shared library where the loader would look without being told.
fn find_library(name: &str) -> Option<PathBuf> {
    let arch = std::env::consts::ARCH;
    let folders = [
        format!("/usr/lib/{arch}-linux-gnu"),
        format!("/lib/{arch}-linux-gnu"),
        "/usr/lib64".into(),
        "/usr/lib".into(),
        "/usr/local/lib".into(),
        "/usr/local/nvidia/lib64".into(),
        "/usr/lib/wsl/lib".into(),
        "/opt/rocm/lib".into(),
        "/run/opengl-driver/lib".into(),
    ];
    folders.into_iter().map(|folder| PathBuf::from(folder).join(name)).find(|path| path.exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_linux_writes_is_understood() {
        assert_eq!(list_len("0-3,8"), Some(5));
        assert_eq!(list_len("0"), Some(1));
        assert_eq!(list_len("3-0"), None);
        assert_eq!(size("32768K"), Some(32 << 20));
        assert_eq!(size("1M"), Some(1 << 20));
        assert_eq!(size("x"), None);
        assert_eq!(meminfo("MemTotal:  123 kB\nMemAvailable: 7 kB\n", "MemAvailable"), Some(7));
        assert_eq!(meminfo("MemTotalX: 1", "MemTotal"), None);
        assert_eq!(chosen_mode("always [madvise] never\n"), Some("madvise"));
        assert_eq!(cpu_name("processor: 0\nmodel name\t: Fast One\n").as_deref(), Some("Fast One"));
    }

    #[test]
    fn threads_are_cores_that_we_may_use() {
        let threads =
            |n_logical, n_cores| compute_threads(&Cpu { name: None, n_logical, n_cores, caches: Vec::new() });
        assert_eq!(threads(16, Some(8)), 8);
        assert_eq!(threads(2, Some(8)), 2, "a container with two of eight cores");
        assert_eq!(threads(4, None), 4);
    }

    #[test]
    fn disks_have_a_size() {
        if cfg!(unix) {
            assert!(free_bytes(Path::new("/nowhere/at/all")).is_some());
        }
    }
}
