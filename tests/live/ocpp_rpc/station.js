// A station by somebody else: npm ocpp-rpc in strict mode, so that every frame of ours and of the CSMS passes its schemas.
// Usage: node station.js '{"url", "identity", "password", "version", "transfer", "tls": {"ca", "cert", "key"}}' (tls: files; those
// and the password are optional). `transfer` is the energy transfer that the vehicle asks for.
// Writes one JSON line per frame {"from": "station"|"csms", "frame": [...]} and at the end {"done": true, ...}.
'use strict';
const fs = require('fs');
const { RPCClient, createValidator } = require('ocpp-rpc');

const config = JSON.parse(process.argv[2]);
const tell = (line) => process.stdout.write(JSON.stringify(line) + '\n');
const now = () => new Date().toISOString();
const evse = { id: 1, connectorId: 1 };
const token = { idToken: 'card-7', type: 'ISO14443' };
const profiles = [];
// 2.2.1 ships the 2.1 schemas as `urn:BootNotificationRequest` and looks for `urn:BootNotification.req`: under the names it looks
// for, its strict mode works on 2.1 too.
const named = require('ocpp-rpc/lib/schemas/ocpp2_1.json').map((schema) => ({
  ...schema, $id: schema.$id.replace(/Request$/, '.req').replace(/Response$/, '.conf'),
}));
let stopped;
const stop = new Promise((resolve) => { stopped = resolve; });

const wsOpts = {};
for (const [name, file] of Object.entries(config.tls || {})) wsOpts[name] = fs.readFileSync(file);
const station = new RPCClient({
  endpoint: config.url,
  identity: config.identity,
  password: config.password,
  protocols: ['ocpp' + config.version],
  strictMode: true,
  strictModeValidators: [createValidator('ocpp2.1', named)],
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

// What the vehicle can do and wants; 2.0.1 knows no discharge.
const needs = {
  requestedEnergyTransfer: config.transfer,
  departureTime: new Date(Date.now() + 9e7).toISOString(),
  dcChargingParameters: {
    evMaxCurrent: 40, evMaxVoltage: 500, evMaxPower: 11000, evEnergyCapacity: 60000, stateOfCharge: 70,
  },
  ...(config.version === '2.1' && {
    v2xChargingParameters: { maxChargePower: 11000, maxDischargePower: 9000, maxDischargePower_L2: 3000, targetSoC: 60 },
  }),
};

async function main() {
  await station.connect();
  const boot = await station.call('BootNotification', {
    reason: 'PowerUp', chargingStation: { model: 'Strict', vendorName: 'npm' },
  });
  await station.call('StatusNotification', { timestamp: now(), connectorStatus: 'Occupied', evseId: 1, connectorId: 1 });
  const authorised = await station.call('Authorize', { idToken: token });
  await event('Started', 0, 'Authorized', { idToken: token });
  const heard = await station.call('NotifyEVChargingNeeds', { evseId: 1, chargingNeeds: needs });
  await event('Updated', 1, 'MeterValuePeriodic', meter(70, 0));
  await station.call('Heartbeat', {});
  const transaction = await stop;
  await event('Ended', 2, 'RemoteStop');
  await station.close();
  tell({
    done: true, protocol: station.protocol, boot: boot.status, token: authorised.idTokenInfo.status, needs: heard.status, transaction,
    profiles,
  });
}

main().catch((error) => {
  tell({ failure: `${error.name} ${error.message}` });
  process.exit(1);
});
