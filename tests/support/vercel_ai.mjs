// A small agent with one tool on Vercel's AI SDK, traced by OpenTelemetry as its guide says.
import { createOpenAI } from "@ai-sdk/openai";
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-proto";
import { NodeSDK } from "@opentelemetry/sdk-node";
import * as ai from "ai";
import { z } from "zod";

const sdk = new NodeSDK({ serviceName: "forecast", traceExporter: new OTLPTraceExporter() });
sdk.start();
const { generateText, stepCountIs, streamText, tool } = ai;
// Version 7 writes spans by a package of its own.
if (ai.registerTelemetry) {
  const { OpenTelemetry } = await import("@ai-sdk/otel");
  ai.registerTelemetry(new OpenTelemetry());
}
const model = createOpenAI({ baseURL: process.env.OPENAI_BASE_URL }).chat("gpt-4o-mini");
const usage = "[[usage:in=1000 read=400 out=300 reasoning=120]]";
const lookup = tool({
  description: "Look up the weather of a city.",
  inputSchema: z.object({ city: z.string() }),
  execute: async ({ city }) => `${city}: rain`,
});
const telemetry = {
  isEnabled: true,
  functionId: "forecaster",
  metadata: { userId: "ada", sessionId: "s-1" },
};
await generateText({
  model,
  tools: { lookup },
  stopWhen: stepCountIs(3),
  prompt: `Will it rain? [[tool:lookup {"city": "Rome"}]] [[say:It rains]] ${usage}`,
  experimental_telemetry: telemetry,
});
const streamed = streamText({
  model,
  prompt: `Hello ${usage}`,
  experimental_telemetry: telemetry,
});
for await (const part of streamed.textStream) void part;
await sdk.shutdown();
