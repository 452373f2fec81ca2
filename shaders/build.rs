//! Fails the build when a shader does not validate.

// The same files as in the crate; not all of what they offer is used here.
#[allow(dead_code)]
#[path = "src/layout.rs"]
mod layout;
#[allow(dead_code)]
#[path = "src/portable.rs"]
mod portable;
#[allow(dead_code)]
#[path = "src/table.rs"]
mod table;

fn main() -> Result<(), String> {
    println!("cargo::rerun-if-changed=wgsl");
    println!("cargo::rerun-if-changed=src");
    for shader in table::SHADERS {
        portable::validate(&shader.standalone(), shader.needs).map_err(|e| format!("{}.wgsl: {e}", shader.name))?;
    }
    Ok(())
}
