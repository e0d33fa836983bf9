/** The parsed `data:` events of a response, up to `[DONE]`. */
// deno-lint-ignore no-explicit-any -- tests look into whatever came
export async function* readEvents(response: Response): AsyncGenerator<any> {
  let rest = "";
  for await (
    const text of response.body!.pipeThrough(new TextDecoderStream())
  ) {
    const events = (rest + text).split("\n\n");
    rest = events.pop()!;
    for (const event of events) {
      if (event === "data: [DONE]") return;
      if (event.startsWith("data: ")) {
        yield JSON.parse(
          event.slice("data: ".length),
        );
      }
    }
  }
}
