/** Watch over MQTT 5 through a broker's WebSocket listener: the topics of one task. */

import { Lost, Refused } from "./failures.js";
import * as mqtt from "./mqtt5-packets.js";
import { useSocket } from "./socket.js";

const KEEP_ALIVE_SECONDS = 20;
const TENANT_MARK = "{tenant}";
/** Unsupported version, bad client id, bad user, not authorised, banned, bad method. */
const FOR_GOOD = new Set([0x84, 0x85, 0x86, 0x87, 0x8a, 0x8c]);

/** Resolves when the task is done; see over-polling.js for the parameters. */
export async function overMqtt(source, tell, signal, say) {
  const { broker, prefix, user, password } = source.mqtt;
  if (!broker) {
    throw new Refused("No broker is named.");
  }
  const root = prefix.replace(TENANT_MARK, user);
  const topics = ["status", "progress"].map((name) => `${root}task/${name}/${source.task}`);
  await useSocket({
    url: broker,
    protocols: ["mqtt"],
    quietMs: 2.5 * KEEP_ALIVE_SECONDS * 1000,
    ping: { ms: (KEEP_ALIVE_SECONDS * 1000) / 2, frame: () => mqtt.PINGREQ },
    begin(socket, done) {
      const clientId = `page-${crypto.getRandomValues(new Uint32Array(2)).join("-")}`;
      const login = { clientId, keepAliveSeconds: KEEP_ALIVE_SECONDS, user, password };
      socket.send(mqtt.connect(login));
      const reader = new mqtt.PacketReader();
      const take = taker({ socket, topics, tell: inOrder(tell), done, say });
      return (buffer) => reader.feed(buffer).forEach(take);
    },
    endOf: () => new Lost("The broker has closed the connection."),
    signal,
  });
}

function taker({ socket, topics, tell, done, say }) {
  const takes = {
    [mqtt.CONNACK]({ body }) {
      const reason = mqtt.readConnack(body);
      if (reason >= mqtt.FAILURE) {
        const kind = FOR_GOOD.has(reason) ? Refused : Lost;
        throw new kind(`The broker refuses the connection (0x${reason.toString(16)}).`);
      }
      socket.send(mqtt.subscribe(1, topics));
    },
    [mqtt.SUBACK]({ body }) {
      if (mqtt.readSuback(body).some((reason) => reason >= mqtt.FAILURE)) {
        throw new Refused("The broker does not let this user read the task's topics.");
      }
      say("live");
    },
    [mqtt.PUBLISH](packet) {
      const { payload, packetId } = mqtt.readPublish(packet);
      if (packetId !== null) {
        socket.send(mqtt.puback(packetId));
      }
      if (payload && tell(JSON.parse(payload))) {
        done();
      }
    },
    [mqtt.DISCONNECT]({ body }) {
      throw new Lost(`The broker ends the connection (0x${(body[0] ?? 0).toString(16)}).`);
    },
  };
  return (packet) => takes[packet.kind]?.(packet);
}

/** Pass over what was sent again: keep the largest `sequence`. */
function inOrder(tell) {
  let newest = 0;
  return ({ sequence, status, progress, message, error }) => {
    if (sequence <= newest) {
      return false;
    }
    newest = sequence;
    return tell({ status, progress, message, error });
  };
}
