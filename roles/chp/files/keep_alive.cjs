// Loaded before the proxy: keeps its connections to the sessions and to the hub open, as it does itself for TCP.
//
// For a unix socket it asks the server to close the connection after the answer. Node.js then still writes an empty
// chunk to end the request, and where the server was faster, a unix socket answers EPIPE (TCP does not): the proxy takes
// that for a failed request and sends 503 in place of the answer (https://github.com/nodejs/node/issues/40553). One to
// two of a hundred requests with a body were lost so.
"use strict";

const http = require("node:http");

const agent = new http.Agent({ keepAlive: true });
const request = http.request;

http.request = function (options, ...rest) {
  if (options?.socketPath && options.agent === false && options.headers?.connection === "close") {
    options = { ...options, agent, headers: { ...options.headers, connection: "keep-alive" } };
  }
  return request.call(this, options, ...rest);
};
