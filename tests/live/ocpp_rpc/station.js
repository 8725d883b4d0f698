// A station by somebody else: npm ocpp-rpc, on 2.0.1 in strict mode, so that every frame of ours and of the CSMS passes its
// schemas (its 2.1 schemas cannot be used: 2.2.1 looks for `urn:BootNotification.req` and has it under another name).
// Usage: node station.js '{"url", "identity", "password", "version", "tls": {"ca", "cert", "key"}}' (files, all optional).
// Writes one JSON line per frame {"from": "station"|"csms", "frame": [...]} and at the end {"done": true, ...}.
'use strict';
const fs = require('fs');
const { RPCClient } = require('ocpp-rpc');

const config = JSON.parse(process.argv[2]);
const tell = (line) => process.stdout.write(JSON.stringify(line) + '\n');
const now = () => new Date().toISOString();
const evse = { id: 1, connectorId: 1 };
const token = { idToken: 'card-7', type: 'ISO14443' };
const profiles = [];
let stopped;
const stop = new Promise((resolve) => { stopped = resolve; });

const wsOpts = {};
for (const [name, file] of Object.entries(config.tls || {})) wsOpts[name] = fs.readFileSync(file);
const station = new RPCClient({
  endpoint: config.url,
  identity: config.identity,
  password: config.password,
  protocols: ['ocpp' + config.version],
  strictMode: config.version === '2.0.1',
  reconnect: false,
  callTimeoutMs: 10000,
  wsOpts,
});

station.on('message', ({ message, outbound }) =>
  tell({ from: outbound ? 'station' : 'csms', frame: JSON.parse(message.toString()) }));
station.on('strictValidationFailure', ({ method, error, outbound }) => {
  tell({ failure: `${outbound ? 'station' : 'csms'} ${method}: ${error.message}` });
  process.exitCode = 2;
});

station.handle('SetVariables', ({ params }) => ({
  setVariableResult: params.setVariableData.map(({ component, variable }) => (
    { attributeStatus: 'Accepted', component, variable })),
}));
station.handle('GetVariables', ({ params }) => ({
  getVariableResult: params.getVariableData.map(({ component, variable }) => (
    { attributeStatus: 'UnknownComponent', component, variable })),
}));
station.handle('SetChargingProfile', ({ params }) => {
  profiles.push(params.chargingProfile);
  return { status: 'Accepted' };
});
station.handle('GetCompositeSchedule', ({ params }) => {
  const schedule = profiles[profiles.length - 1].chargingSchedule[0];
  return {
    status: 'Accepted',
    schedule: {
      evseId: params.evseId,
      duration: params.duration,
      scheduleStart: now(),
      chargingRateUnit: schedule.chargingRateUnit,
      chargingSchedulePeriod: schedule.chargingSchedulePeriod,
    },
  };
});
station.handle('RequestStopTransaction', ({ params }) => {
  setImmediate(stopped, params.transactionId);
  return { status: 'Accepted' };
});
// What a CSMS may ask besides: refused as the standard says.
station.handle(() => { throw Object.assign(new Error('not here'), { rpcErrorCode: 'NotImplemented' }); });

const event = (eventType, seqNo, triggerReason, more = {}) => station.call('TransactionEvent', {
  eventType, timestamp: now(), triggerReason, seqNo, evse, transactionInfo: { transactionId: 'foreign-1' }, ...more,
});
const meter = (soc, power) => ({
  meterValue: [{
    timestamp: now(),
    sampledValue: [
      { value: soc, measurand: 'SoC', unitOfMeasure: { unit: 'Percent' } },
      { value: power, measurand: 'Power.Active.Import', unitOfMeasure: { unit: 'W' } },
    ],
  }],
});

async function main() {
  await station.connect();
  const boot = await station.call('BootNotification', {
    reason: 'PowerUp', chargingStation: { model: 'Strict', vendorName: 'npm' },
  });
  await station.call('StatusNotification', { timestamp: now(), connectorStatus: 'Occupied', evseId: 1, connectorId: 1 });
  const authorised = await station.call('Authorize', { idToken: token });
  await event('Started', 0, 'Authorized', { idToken: token });
  await event('Updated', 1, 'MeterValuePeriodic', meter(70, 0));
  await station.call('Heartbeat', {});
  const transaction = await stop;
  await event('Ended', 2, 'RemoteStop');
  await station.close();
  tell({ done: true, protocol: station.protocol, boot: boot.status, token: authorised.idTokenInfo.status, transaction, profiles });
}

main().catch((error) => {
  tell({ failure: `${error.name} ${error.message}` });
  process.exit(1);
});
