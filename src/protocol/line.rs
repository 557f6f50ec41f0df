//! Reads and writes single lines of the protocol.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Writes a line, line break included.
///
/// # Errors
/// Never for the types of this floor whose floats are finite: they are plain data with string keys.
pub fn encode<T: Serialize>(message: &T) -> serde_json::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(line)
}

/// Reads a line without its line break.
///
/// # Errors
/// When the line is no JSON object of the protocol.
pub fn decode<T: DeserializeOwned>(line: &[u8]) -> serde_json::Result<T> {
    serde_json::from_slice(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::command::Command;
    use crate::protocol::event::{Event, Piece};

    #[test]
    fn a_line_has_one_key_and_unknown_fields_are_ignored() {
        let piece = Piece {
            id: 7,
            text: "hé".into(),
            ends: vec![1, 3],
            tok: vec![5, 6],
            ..Piece::default()
        };
        let line = encode(&Event::Piece(piece)).unwrap();
        let text = String::from_utf8(line).unwrap();
        assert_eq!(text, "{\"piece\":{\"id\":7,\"text\":\"hé\",\"ends\":[1,3],\"tok\":[5,6]}}\n");
        let command: Command = decode(br#"{"cancel":{"id":3,"why":"unknown field"}}"#).unwrap();
        assert!(matches!(command, Command::Cancel(ask) if ask.id == 3));
        let load: Command = decode(br#"{"load":{"id":1,"model":"m","settings":{}}}"#).unwrap();
        assert!(matches!(load, Command::Load(load) if load.settings.slots == 4));
    }

    #[test]
    fn a_generation_needs_no_more_than_id_and_prompt() {
        let line = br#"{"generate":{"id":9,"prompt":{"text":{"text":"Hi"}}}}"#;
        assert!(matches!(decode::<Command>(line).unwrap(), Command::Generate(g) if g.id == 9));
    }
}
