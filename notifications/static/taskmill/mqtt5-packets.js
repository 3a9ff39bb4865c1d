/**
 * MQTT 5 packets, as many as a subscriber needs: CONNECT, SUBSCRIBE, PUBACK, PINGREQ out; CONNACK,
 * SUBACK, PUBLISH of QoS 0 and 1, PINGRESP, DISCONNECT in. Source: the OASIS standard MQTT 5.0.
 */

export const CONNACK = 2;
export const PUBLISH = 3;
export const SUBACK = 9;
export const DISCONNECT = 14;
export const FAILURE = 0x80;
const CLEAN_START = 0x02;
const PASSWORD = 0x40;
const USER = 0x80;
const VERSION = 5;

export const PINGREQ = Uint8Array.of(0xc0, 0);

export function connect({ clientId, keepAliveSeconds, user, password }) {
  const flags = CLEAN_START | (user ? USER : 0) | (password ? PASSWORD : 0);
  return packet(0x10, [
    ...text("MQTT"),
    VERSION,
    flags,
    ...number16(keepAliveSeconds),
    0,
    ...text(clientId),
    ...(user ? text(user) : []),
    ...(password ? text(password) : []),
  ]);
}

/** Ask for topics with QoS 1; what the broker retains comes first. */
export function subscribe(packetId, topics) {
  const filters = topics.flatMap((topic) => [...text(topic), 1]);
  return packet(0x82, [...number16(packetId), 0, ...filters]);
}

export function puback(packetId) {
  return packet(0x40, number16(packetId));
}

/** Cuts what arrives into packets, wherever the frames of the WebSocket begin and end. */
export class PacketReader {
  #rest = new Uint8Array();

  /** @returns {{kind: number, flags: number, body: Uint8Array}[]} the packets that are whole */
  feed(buffer) {
    const data = new Uint8Array(this.#rest.length + buffer.byteLength);
    data.set(this.#rest);
    data.set(new Uint8Array(buffer), this.#rest.length);
    const packets = [];
    let place = 0;
    for (let head = headOf(data, place); head !== null; head = headOf(data, place)) {
      const body = data.subarray(head.begin, head.end);
      packets.push({ kind: data[place] >> 4, flags: data[place] & 15, body });
      place = head.end;
    }
    this.#rest = data.slice(place);
    return packets;
  }
}

function headOf(data, place) {
  const length = variable(data, place + 1);
  if (length === null || data.length < length.next + length.value) {
    return null;
  }
  return { begin: length.next, end: length.next + length.value };
}

/** @returns {number} the reason code; `FAILURE` and above refuse */
export function readConnack(body) {
  return body[1];
}

/** @returns {number[]} a reason code for each topic */
export function readSuback(body) {
  return [...body.subarray(afterProperties(body, 2))];
}

/** @returns {{topic: string, payload: string, packetId: number | null}} */
export function readPublish({ flags, body }) {
  const qos = (flags >> 1) & 3;
  const end = 2 + ((body[0] << 8) | body[1]);
  const packetId = qos > 0 ? (body[end] << 8) | body[end + 1] : null;
  const decoder = new TextDecoder();
  return {
    topic: decoder.decode(body.subarray(2, end)),
    payload: decoder.decode(body.subarray(afterProperties(body, end + (qos > 0 ? 2 : 0)))),
    packetId,
  };
}

function afterProperties(body, place) {
  const { next, value } = variable(body, place);
  return next + value;
}

/** Read a variable byte integer; null where it is not whole yet. */
function variable(data, place) {
  let value = 0;
  for (let shift = 0; shift <= 21; shift += 7, place += 1) {
    if (place >= data.length) {
      return null;
    }
    value |= (data[place] & 127) << shift;
    if (data[place] < 128) {
      return { value, next: place + 1 };
    }
  }
  throw new Error("This is not MQTT.");
}

function packet(head, body) {
  const length = [];
  let rest = body.length;
  do {
    length.push((rest & 127) | (rest > 127 ? 128 : 0));
    rest >>= 7;
  } while (rest > 0);
  return Uint8Array.from([head, ...length, ...body]);
}

function text(value) {
  const bytes = new TextEncoder().encode(value);
  return [...number16(bytes.length), ...bytes];
}

function number16(value) {
  return [value >> 8, value & 255];
}
