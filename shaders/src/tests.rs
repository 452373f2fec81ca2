use super::*;
use layout::{OrderParams, Params};

#[test]
fn every_shader_is_valid_and_portable() {
    for shader in SHADERS {
        let module = portable::validate(&shader.standalone(), shader.needs).unwrap_or_else(|e| panic!("{}: {e}", shader.name));
        let msl = module.msl().unwrap_or_else(|e| panic!("{} as MSL: {e}", shader.name));
        let hlsl = module.hlsl().unwrap_or_else(|e| panic!("{} as HLSL: {e}", shader.name));
        assert!(msl.contains("metal_stdlib") && hlsl.contains("cbuffer"), "{}", shader.name);
    }
}

#[test]
fn validation_rejects_a_broken_shader() {
    let broken = INT64_PAIR.standalone().replace("return a.x;", "return a.x + 1.5;");
    assert!(portable::validate(&broken, Needs::Floor).is_err());
    assert!(portable::validate(&INT64_NATIVE.standalone(), Needs::Floor).is_err(), "i64 is not on the floor");
}

#[test]
fn the_uniform_lies_in_wgsl_as_in_rust() {
    let module = portable::validate(&layout::declarations(1, layout::Output::Groups), Needs::Floor).unwrap();
    let (size, fields) = module.struct_layout("Params").unwrap();
    assert_eq!(size as usize, size_of::<Params>());
    let expected: Vec<(String, u32)> = Params::offsets().into_iter().map(|(name, at)| (name.to_string(), at as u32)).collect();
    assert_eq!(fields, expected);
    let module = portable::validate(&layout::declarations(0, layout::Output::Order), Needs::Floor).unwrap();
    let (size, fields) = module.struct_layout("OrderParams").unwrap();
    assert_eq!(size as usize, size_of::<OrderParams>());
    let expected: Vec<(String, u32)> = OrderParams::offsets().into_iter().map(|(name, at)| (name.to_string(), at as u32)).collect();
    assert_eq!(fields, expected);
}

#[test]
fn parameter_words_are_where_their_names_say() {
    let words: Vec<u32> = (0..layout::PARAM_WORDS_MAX as u32).collect();
    let params = Params::new(1, 2, 3, &words);
    assert_eq!(params.words[1].0, [4, 5, 6, 7]);
    assert_eq!(Params::word(6), "params.words[1].z");
    assert_eq!(Params::new(1, 2, 3, &[9]).words[0].0, [9, 0, 0, 0]);
}

#[test]
fn every_file_is_in_the_table() {
    // Cargo runs tests in the package's folder; a build may be older than the checkout.
    let mut files: Vec<String> =
        std::fs::read_dir("wgsl").unwrap().map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned()).collect();
    files.sort();
    let mut names: Vec<&str> = SHADERS.iter().map(|s| s.name).collect();
    names.sort();
    assert_eq!(files, names);
}
