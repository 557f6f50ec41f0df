//! Pictures beside manifests, safe to hand to a browser: small, raster, and what their name says.

use crate::registry::beneath::{Folder, ReadError};

/// Largest picture, in bytes.
pub const MAX_IMAGE_BYTES: u64 = 8 << 20;

/// A picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// `image/png` and so on, from the content, not from the name.
    pub mime: &'static str,
    /// The file.
    pub bytes: Vec<u8>,
}

/// Why a picture is not handed out.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The file cannot be read.
    #[error("{0}")]
    Read(#[from] ReadError),
    /// Its content is something else: SVG, which can hold scripts, or no picture at all.
    #[error("it is no picture; expected the content of a png, gif, webp, jpeg or bmp file")]
    NotAPicture,
}

/// Reads a picture beneath a folder.
///
/// # Errors
/// [`ImageError`] when it is missing, over [`MAX_IMAGE_BYTES`] or no raster picture.
pub fn read_image(folder: &Folder, path: &str) -> Result<Image, ImageError> {
    let bytes = folder.read(path, MAX_IMAGE_BYTES)?;
    let mime = mime(&bytes).ok_or(ImageError::NotAPicture)?;
    Ok(Image { mime, bytes })
}

/// The type that a picture's first bytes tell.
fn mime(bytes: &[u8]) -> Option<&'static str> {
    let begins = |magic: &[u8]| bytes.starts_with(magic);
    if begins(b"\x89PNG\r\n\x1a\n") {
        Some("image/png")
    } else if begins(b"GIF87a") || begins(b"GIF89a") {
        Some("image/gif")
    } else if begins(b"\xff\xd8\xff") {
        Some("image/jpeg")
    } else if begins(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
        Some("image/webp")
    } else if begins(b"BM") && bytes.len() > 26 {
        Some("image/bmp")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::testing::Scratch;

    #[test]
    fn a_picture_is_what_its_content_says() {
        let scratch = Scratch::new();
        scratch.write("logo.png", b"\x89PNG\r\n\x1a\nrest");
        scratch.write("lie.png", b"<svg onload='alert(1)'/>");
        scratch.write("big.png", vec![0; (8 << 20) + 1]);
        let folder = Folder::open(scratch.path()).unwrap();
        assert_eq!(read_image(&folder, "logo.png").unwrap().mime, "image/png");
        let refused = |path: &str| read_image(&folder, path).unwrap_err().to_string();
        assert!(refused("lie.png").contains("no picture"));
        assert!(refused("big.png").contains("at most 8388608"));
        assert!(refused("none.png").contains("no such file"));
    }
}
