/** Text to tokens and back, and chat templates. */
export { createChatTemplate } from "./chat_template.ts";
export { encodeChat } from "./encode_chat.ts";
export { createTokenizer, endIdsOf, type ModelTokenizer } from "./tokenizer.ts";
export type * from "./types.ts";
