//! Validation of WGSL, and the same shader as Metal and Direct3D will see it.

use crate::table::Needs;
use naga::back::{hlsl, msl};
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};

/// A module that passed validation.
#[derive(Debug)]
pub struct Validated {
    module: naga::Module,
    info: ModuleInfo,
    needs: Needs,
}

/// Parses and validates a WGSL module for devices that offer `needs`.
///
/// # Errors
/// The compiler's message, with the place in the source.
pub fn validate(source: &str, needs: Needs) -> Result<Validated, String> {
    let module = naga::front::wgsl::parse_str(source).map_err(|e| e.emit_to_string(source))?;
    let capabilities = match needs {
        Needs::Floor => Capabilities::empty(),
        Needs::Int64 => Capabilities::SHADER_INT64,
    };
    let info = Validator::new(ValidationFlags::all(), capabilities).validate(&module).map_err(|e| e.emit_to_string(source))?;
    Ok(Validated { module, info, needs })
}

impl Validated {
    /// The module as Metal's shading language.
    ///
    /// # Errors
    /// What Metal cannot express.
    pub fn msl(&self) -> Result<String, String> {
        let options = msl::Options {
            lang_version: (2, 4),
            bounds_check_policies: BoundsCheckPolicies {
                index: BoundsCheckPolicy::Restrict,
                buffer: BoundsCheckPolicy::Restrict,
                ..BoundsCheckPolicies::default()
            },
            ..msl::Options::default()
        };
        let (text, info) =
            msl::write_string(&self.module, &self.info, &options, &msl::PipelineOptions::default()).map_err(|e| e.to_string())?;
        for name in info.entry_point_names {
            name.map_err(|e| e.to_string())?;
        }
        Ok(text)
    }

    /// The module as Direct3D's shading language.
    ///
    /// # Errors
    /// What Direct3D cannot express.
    pub fn hlsl(&self) -> Result<String, String> {
        let shader_model = match self.needs {
            Needs::Floor => hlsl::ShaderModel::V5_1,
            Needs::Int64 => hlsl::ShaderModel::V6_0,
        };
        let options = hlsl::Options { shader_model, ..hlsl::Options::default() };
        let mut text = String::new();
        let info = hlsl::Writer::new(&mut text, &options, &hlsl::PipelineOptions::default())
            .write(&self.module, &self.info, None)
            .map_err(|e| e.to_string())?;
        for name in info.entry_point_names {
            name.map_err(|e| e.to_string())?;
        }
        Ok(text)
    }

    /// Names of the entry points.
    pub fn entry_points(&self) -> Vec<&str> {
        self.module.entry_points.iter().map(|e| e.name.as_str()).collect()
    }

    /// Byte size of struct `name`, and the byte offset of each of its fields, as WGSL lays it out.
    pub fn struct_layout(&self, name: &str) -> Option<(u32, Vec<(String, u32)>)> {
        self.module.types.iter().find(|(_, ty)| ty.name.as_deref() == Some(name)).and_then(|(_, ty)| match &ty.inner {
            naga::TypeInner::Struct { members, span } => {
                Some((*span, members.iter().map(|m| (m.name.clone().unwrap_or_default(), m.offset)).collect()))
            }
            _ => None,
        })
    }
}
