//! `wootz doctor`: what this machine has, and what Wootz will use of it.
//!
//! Where:  a verb; the numbers come from [`machine`](crate::machine).

use anyhow::Result;
use serde_json::{Value, json};
use wootz_kernels::{Isa, Peaks, Pool};

use super::print_json;
use crate::machine::{self, Cpu, Memory};
use crate::output::{binary_bytes, bytes, print};
use crate::settings::Settings;

/// Show what this machine has and what Wootz will use of it
///
/// Measures for up to half a second how fast memory is read, which bounds how fast a model can write.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  wootz doctor --json")]
pub(crate) struct DoctorArgs {
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

impl DoctorArgs {
    /// Looks, measures, tells.
    pub(crate) fn run(self, settings: &Settings) -> Result<()> {
        let report = report(settings);
        if self.json { print_json(&report) } else { print(&text(&report)) }
    }
}

fn report(settings: &Settings) -> Value {
    let (cpu, memory, isa) = (Cpu::detect(), Memory::detect(), Isa::detect());
    let n_threads = machine::compute_threads(&cpu);
    let peaks = Peaks::measure(isa, &Pool::new(n_threads));
    let cache =
        |c: &machine::Cache| json!({ "name": c.name, "size_bytes": c.size_bytes, "shared_by": c.shared_by });
    let gpu = |g: &machine::Gpu| json!({ "kind": g.kind, "library": g.library, "note": g.note });
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "cpu": {
            "name": cpu.name,
            "architecture": std::env::consts::ARCH,
            "logical": cpu.n_logical,
            "cores": cpu.n_cores,
            "caches": cpu.caches.iter().map(cache).collect::<Vec<_>>(),
        },
        "memory": {
            "total_bytes": memory.total_bytes,
            "available_bytes": memory.available_bytes,
            "limit_bytes": memory.limit_bytes,
            "transparent_huge_pages": memory.transparent_huge_pages,
            "reserved_huge_pages": memory.reserved_huge_pages,
            "read_bytes_per_s": (peaks.read_gb_per_s * 1e9).round(),
        },
        "gpus": machine::gpus().iter().map(gpu).collect::<Vec<_>>(),
        "folders": {
            "home": settings.home,
            "home_exists": settings.home.is_dir(),
            "home_free_bytes": machine::free_bytes(&settings.home),
            "hf_cache": settings.hf_hub,
            "hf_cache_exists": settings.hf_hub.as_ref().is_some_and(|path| path.is_dir()),
        },
        "hub": {
            "endpoint": settings.hub.endpoint,
            "has_token": settings.hub.token.is_some(),
            "has_proxy": settings.hub.proxy.is_some(),
            "offline": settings.hub.offline,
        },
        "uses": { "device": "cpu", "instructions": machine::instructions(isa), "threads": n_threads },
    })
}

/// The report for people.
fn text(report: &Value) -> String {
    let word = |value: &Value| value.as_str().unwrap_or("unknown").to_owned();
    let size = |value: &Value| value.as_u64().map_or("unknown".into(), bytes);
    let memory_size = |value: &Value| value.as_u64().map_or("unknown".into(), binary_bytes);
    let number = |value: &Value| value.as_u64().map_or("unknown".into(), |n| n.to_string());
    let (cpu, memory, folders, hub, uses) =
        (&report["cpu"], &report["memory"], &report["folders"], &report["hub"], &report["uses"]);
    let array = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let caches = array(&cpu["caches"])
        .into_iter()
        .map(|c| format!("{} {}", word(&c["name"]), memory_size(&c["size_bytes"])));
    let presence = |exists: &Value| if exists == true { "" } else { " (not there yet)" };
    let rate =
        memory["read_bytes_per_s"].as_f64().map_or("unknown".into(), |r| format!("{:.1} GB/s", r / 1e9));
    let limit =
        memory["limit_bytes"].as_u64().map_or(String::new(), |l| format!(", limited to {}", binary_bytes(l)));
    let mut lines = vec![
        format!("wootz {}", word(&report["version"])),
        format!("processor     {} ({})", word(&cpu["name"]), word(&cpu["architecture"])),
        format!(
            "cores         {} cores, {} logical processors for us",
            number(&cpu["cores"]),
            number(&cpu["logical"])
        ),
        format!("caches        {}", caches.collect::<Vec<_>>().join(", ")),
        format!(
            "memory        {}, {} available{limit}",
            memory_size(&memory["total_bytes"]),
            memory_size(&memory["available_bytes"])
        ),
        format!(
            "huge pages    transparent: {}, reserved: {}",
            word(&memory["transparent_huge_pages"]),
            number(&memory["reserved_huge_pages"])
        ),
        format!("bandwidth     {rate} reading on {} threads", number(&uses["threads"])),
    ];
    for gpu in array(&report["gpus"]) {
        lines.push(format!(
            "graphics      {}: {} ({})",
            word(&gpu["kind"]),
            word(&gpu["note"]),
            word(&gpu["library"])
        ));
    }
    if array(&report["gpus"]).is_empty() {
        lines.push("graphics      no driver found".into());
    }
    let token = if hub["has_token"] == true { "with a token" } else { "without a token" };
    let offline = if hub["offline"] == true { ", offline" } else { "" };
    lines.extend([
        format!(
            "home          {}{}, {} free",
            word(&folders["home"]),
            presence(&folders["home_exists"]),
            size(&folders["home_free_bytes"])
        ),
        format!("hf cache      {}{}", word(&folders["hf_cache"]), presence(&folders["hf_cache_exists"])),
        format!("hub           {} {token}{offline}", word(&hub["endpoint"])),
        format!(
            "wootz uses    device {}, {}, {} threads",
            word(&uses["device"]),
            word(&uses["instructions"]),
            number(&uses["threads"])
        ),
    ]);
    lines.join("\n")
}
