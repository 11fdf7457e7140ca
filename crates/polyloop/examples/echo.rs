//! The smallest server: a safe echo on every core.

use polyloop::{Ctx, Handler, Input, Server, StartError, Verdict};

struct Echo;

impl Handler for Echo {
    type Message = ();

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, input: &mut Input<'_>) -> Verdict {
        let _ = cx.write(input.take_all());
        Verdict::Continue
    }
}

fn main() -> Result<(), StartError> {
    Server::new(|_| Echo)
        .listen("127.0.0.1:7000")?
        .run()
        .map(drop)
}
