// SPDX-License-Identifier: Apache-2.0
//! `ensconce convert`: one file per stage.

mod binary;
mod command;
mod request;

use oci::image::Image;
use oci::limits::Limits;
use oci::root::RootView;

use crate::args::Convert;
use crate::console::Console;
use crate::exit::{Class, Classify as _, Failure};
use request::Request;

/// Converts an image as the options say.
pub(crate) fn convert(options: Convert) -> Result<(), Failure> {
    let console = Console::new(options.debug, options.verbose, options.no_color);
    let request = Request::check(options, console)?;
    let temp = std::env::temp_dir();
    let limits = Limits::default();
    console.step(format!("open {}", request.from));
    let image = Image::open(&request.from, &limits, &temp).class(
        Class::NativeImage,
        format!("Cannot open '{}'", request.from),
    )?;
    let view = RootView::open(&image, &limits, &temp).class(
        Class::NativeImage,
        format!("Cannot read '{}'", request.from),
    )?;
    let path = command::search_path(image.config());
    let binary = binary::find(&view, &request.options.binary, path)?;
    let launch = command::merge(&request, image.config(), &view, &binary)?;
    Err(Failure::new(
        Class::Internal,
        format!("Conversion of {} stops here: {launch:?}", binary.path),
    ))
}
