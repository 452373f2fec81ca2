//! `millstream devices`: what this machine computes on, and what that was measured to take.

use crate::args::{Common, DevicesArgs};
use crate::runtime::cancellable;
use crate::{Outcome, Usage, profiles};
use millstream::{Calibration, MachineProfile};

pub fn run(a: &DevicesArgs, common: &Common) -> Outcome {
    if a.calibrate {
        return cancellable(common, calibrate(a, common));
    }
    let d = millstream::devices()?;
    let profile = profiles::folder().and_then(|folder| millstream::newest_profile(&folder));
    if a.json {
        let json = serde_json::json!({
            "cpu": { "isa": d.isa, "threads": d.threads }, "adapters": d.adapters, "profile": profile.map(|p| p.name),
        });
        println!("{}", serde_json::to_string_pretty(&json)?);
        return Ok(());
    }
    println!("cpu   {} kernels, {} threads", d.isa, d.threads);
    for g in &d.adapters {
        let software = if g.is_software { " (software: for tests, never chosen by auto)" } else { "" };
        println!("gpu   {} [{}] {}{software}", g.name, g.backend, g.driver);
    }
    if d.adapters.is_empty() {
        println!("gpu   none");
    }
    match profile {
        Some(p) => println!("measured: {}", p.name),
        None => println!("not measured: millstream devices --calibrate"),
    }
    Ok(())
}

/// Measures, keeps the profile, and says what it found.
async fn calibrate(a: &DevicesArgs, common: &Common) -> Outcome {
    let none = || Usage::new("there is no folder to keep the profile in: MILLSTREAM_PROFILES names one");
    let folder = profiles::folder().ok_or_else(none)?;
    let how = Calibration { threads: common.threads(), folder };
    let mut progress = |what: &str| eprintln!("measuring {what}");
    let profile = millstream::calibrate(&how, &mut progress).await?;
    let file = millstream::store_profile(&how.folder, &profile)?;
    eprintln!("kept in {}", file.display());
    if a.json {
        println!("{}", profile.to_json()?);
    } else {
        print(&profile);
    }
    if a.check {
        let check = millstream::check(&how, &profile, &mut progress).await?;
        if a.json { eprint!("{check}") } else { print!("\n{check}") }
    }
    Ok(())
}

/// What was measured, a line for each kernel.
fn print(profile: &MachineProfile) {
    let (cpu, giga) = (&profile.cpu, 1e9);
    println!("cpu   {} kernels, {} threads", cpu.isa, cpu.threads);
    println!("      memory {:.1} GB/s on one thread, {:.1} on all", cpu.read_bytes_per_s_one / giga, cpu.read_bytes_per_s / giga);
    println!("      a stage starts in {:.0} us, {:.0} us more for each further thread", cpu.stage_ns / 1e3, cpu.thread_ns / 1e3);
    println!("      kernels take {:.2} times as long within a stage as what follows, which they take alone", cpu.in_stage);
    for (kernel, curve) in &cpu.kernels {
        println!("      {:<14} {}", kernel.name(), points(&curve.0));
    }
    let Some(gpu) = &profile.gpu else {
        println!("gpu   none");
        return;
    };
    let software = if gpu.is_software { " (software: never chosen by auto)" } else { "" };
    println!("gpu   {} [{}] {}{software}", gpu.name, gpu.backend, gpu.driver);
    println!("      upload {:.1} GB/s, readback {:.1} GB/s", gpu.upload_bytes_per_s / giga, gpu.readback_bytes_per_s / giga);
    println!("      submission {:.0} us, a kernel compiles in {:.0} ms", gpu.submit_ns / 1e3, gpu.compile_ns / 1e6);
    for (kernel, curve) in &gpu.kernels {
        println!("      {:<14} {}", kernel.name(), points(&curve.0));
    }
}

/// Nanoseconds a row, by the bytes of the table where there is one.
fn points(points: &[(f64, f64)]) -> String {
    let size = |bytes: f64| match bytes {
        b if b >= 1048576.0 => format!("{:.0} MiB", b / 1048576.0),
        b if b >= 1024.0 => format!("{:.0} KiB", b / 1024.0),
        b => format!("{b:.0} B"),
    };
    match points {
        [(_, ns)] => format!("{ns:.2} ns a row"),
        many => many.iter().map(|(bytes, ns)| format!("{ns:.2} ns ({})", size(*bytes))).collect::<Vec<_>>().join(", "),
    }
}
