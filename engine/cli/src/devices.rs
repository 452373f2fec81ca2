//! `millstream devices`: what this machine computes on.

use crate::Outcome;
use crate::args::DevicesArgs;

pub fn run(a: &DevicesArgs) -> Outcome {
    let d = millstream::devices()?;
    if a.json {
        let json = serde_json::json!({ "cpu": { "isa": d.isa, "threads": d.threads }, "adapters": d.adapters });
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
    Ok(())
}
