//! The binding that ships as a template speaks the protocol of this program.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use lollmsd::protocol::command as ask;
use lollmsd::protocol::event::{EndReason, Event};
use lollmsd::protocol::line;
use lollmsd::protocol::sampling::SamplingParams;

struct Example {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Example {
    fn start() -> Self {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/bindings/example_python");
        let mut child = Command::new("python3")
            .arg("binding.py")
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, input, output }
    }

    fn send(&mut self, command: &ask::Command) {
        let line = line::encode(command).unwrap();
        self.input.as_mut().unwrap().write_all(&line).unwrap();
    }

    fn next(&mut self) -> Event {
        let mut text = Vec::new();
        self.output.read_until(b'\n', &mut text).unwrap();
        line::decode(&text).unwrap()
    }

    fn generate(&mut self, id: u64, text: &str, n_predict: Option<u32>) {
        let prompt = ask::Prompt::Text(ask::TextPrompt { text: text.into(), keep_last: None });
        self.send(&ask::Command::Generate(Box::new(ask::Generate {
            id,
            prompt,
            n_predict,
            sampling: SamplingParams::default(),
            stop: Vec::new(),
            lora: None,
            draft_max: None,
            keep: false,
            context_shift: false,
            n_keep: 0,
            anti_prompts: Vec::new(),
        })));
    }

    /// Text and reason of one generation; no other may run.
    fn completion(&mut self) -> (String, EndReason) {
        let mut text = String::new();
        loop {
            let event = self.next();
            if let Event::Piece(piece) = event {
                text.push_str(&piece.text);
            } else if let Event::End(end) = event {
                return (text, end.reason);
            } else {
                assert!(matches!(event, Event::Started(_)), "unexpected {event:?}");
            }
        }
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        // The end of its input ends it.
        self.input = None;
        self.child.wait().unwrap();
    }
}

#[test]
fn the_example_loads_streams_and_is_cancelled() {
    let mut example = Example::start();
    example.send(&ask::Command::Hello(ask::Hello { version: 1 }));
    assert!(matches!(example.next(), Event::Hello(hello) if hello.version == 1));
    let settings = ask::LoadSettings::default();
    let load = ask::Load { id: 1, model: "echo".into(), path: None, settings };
    example.send(&ask::Command::Load(load));
    let mut progress = 0;
    while let Event::Progress(step) = example.next() {
        assert!(step.id == 1 && step.fraction <= 1.0);
        progress += 1;
    }
    assert_eq!(progress, 4);
    example.generate(2, "déjà vu 😀 twice", None);
    assert_eq!(example.completion(), ("déjà vu 😀 twice".into(), EndReason::Stop));
    example.generate(3, "one two three", Some(2));
    assert_eq!(example.completion(), ("one two".into(), EndReason::Limit));
    example.generate(4, &"word ".repeat(10_000), None);
    while !matches!(example.next(), Event::Piece(_)) {}
    example.send(&ask::Command::Cancel(ask::Ask { id: 4 }));
    assert_eq!(example.completion().1, EndReason::Cancelled);
}

#[test]
fn the_example_ends_with_its_input() {
    let mut example = Example::start();
    example.generate(1, &"word ".repeat(10_000), None);
    assert!(matches!(example.next(), Event::Started(_)));
    drop(example);
}
