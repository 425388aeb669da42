"""An adapter of softstake in Python, with a toy chain in memory behind it and the signer of its one key beside it.

The clauses (P1, S2, ...) are those of proto/softstake/adapter/v1/adapter.proto. A real adapter asks a node where this one
asks `Chain`; a real signer holds its key elsewhere. The toy's blocks follow the clock; nothing of it outlives the process.
"""
import argparse, hashlib, hmac, sys, threading, time
from concurrent import futures

import grpc

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--proto", default="proto", help="the folder proto/ of softstake's repository")
parser.add_argument("--listen", default="127.0.0.1:7090", help="where to listen; port 0 takes a free one")
arguments = parser.parse_args()
sys.path.insert(0, arguments.proto)
tx, _ = grpc.protos_and_services("softstake/chain/v1/transaction.proto")
pb, services = grpc.protos_and_services("softstake/adapter/v1/adapter.proto")
signing, signer_services = grpc.protos_and_services("softstake/signer/v1/signer.proto")

BLOCK, UNBONDING, FEE, LEAST, LIFE = 0.2, 3600, 5, 1000, 100  # seconds, seconds, base units, base units, blocks
STAKING, CUSTODY, VALIDATORS = "toy-staking", "toy-custody", ["toy-validator-1", "toy-validator-2"]
KEY_ID, KEY = "toy", b"a toy's key is no secret"


class Chain:
    """Everything follows from the list of effects: what is in it up to a height is the state at that height."""

    def __init__(self):
        self.genesis, self.effects, self.ended, self.nonce = time.time(), [], {}, 0
        self.add(0, "genesis", None, transfer_in=pb.TransferIn(amount_base_units="1000000"))

    def head(self):
        """The last final height; brings to an end what has matured by then."""
        head = int((time.time() - self.genesis) / BLOCK)
        for effect in list(self.effects):
            begun, name = effect.undelegated, f"matured-{effect.key.transaction}"
            due = max(0, int((begun.matures_at_seconds - self.genesis) / BLOCK) + 1)
            if effect.WhichOneof("kind") == "undelegated" and due <= head and name not in self.ended:
                how = dict(validator=begun.validator, amount_base_units=begun.amount_base_units)
                self.ended[name] = self.add(due, name, None, matured=pb.Matured(**how)) + self.add(
                    due, name, None, 1, withdrawn=pb.Withdrawn(amount_base_units=begun.amount_base_units))
        self.effects.sort(key=lambda effect: effect.height)
        return head

    def at(self, height):
        return int(self.genesis + height * BLOCK)

    def add(self, height, name, operation, index=0, **kind):
        key = pb.EffectKey(transaction=name, index=index)
        self.effects.append(pb.Effect(key=key, height=height, at_seconds=self.at(height), operation_id=operation, **kind))
        return self.effects[-1:]

    def state(self, height):
        """Liquid, staked by validator, unbonding, of what is in blocks up to `height`."""
        liquid, staked, unbonding = 0, dict.fromkeys(VALIDATORS, 0), []
        for effect in self.effects:
            kind = effect.WhichOneof("kind")
            body = getattr(effect, kind)
            units = int(body.amount_base_units)
            if effect.height > height:
                continue
            liquid += {"transfer_in": units, "withdrawn": units, "undelegated": 0, "matured": 0}.get(kind, -units)
            if kind == "delegated":
                staked[body.validator] += units
            elif kind == "undelegated":
                staked[body.validator] -= units
                unbonding.append((body.validator, units, body.matures_at_seconds))
            elif kind == "matured":
                unbonding.pop(0)
        return liquid, staked, unbonding

    def problem(self, operation):
        """Why no block could do it, as things stand (P6)."""
        kind = operation.WhichOneof("kind")
        if kind not in ("delegate", "undelegate", "send_to_custody"):
            return f"this chain has no {kind}"
        body, (liquid, staked, _) = getattr(operation, kind), self.state(float("inf"))
        units, validator = int(body.amount_base_units), getattr(body, "validator", None)
        if validator is not None and validator not in VALIDATORS:
            return f"validator {validator} is unknown"
        rest = staked[validator] - units if kind == "undelegate" else liquid - units - FEE
        if units == 0 or rest < 0 or liquid < FEE:
            return "the amount is zero, or more than there is"
        if kind == "delegate" and staked[validator] + units < LEAST or kind == "undelegate" and 0 < rest < LEAST:
            return f"the stake would be below the minimum of {LEAST}"
        return None

    def include(self, name, operation_id, operation):
        """Executes in the next block."""
        kind = operation.WhichOneof("kind")
        body, height = getattr(operation, kind), self.head() + 1
        done = self.add(height, name, operation_id, fee_paid=pb.FeePaid(amount_base_units=str(FEE)))
        how = dict(amount_base_units=body.amount_base_units)
        if kind == "delegate":
            effect = dict(delegated=pb.Delegated(validator=body.validator, **how))
        elif kind == "undelegate":
            matures = self.at(height) + UNBONDING
            effect = dict(undelegated=pb.Undelegated(validator=body.validator, matures_at_seconds=matures, **how))
        else:
            effect = dict(transfer_out=pb.TransferOut(transfer=body.transfer, **how))
        self.ended[operation_id] = done + self.add(height, name, operation_id, 1, **effect)
        self.nonce += 1


def decode(sign_bytes):
    """What bytes say, from the bytes alone (P1): an operation's id, a zero, and what it does."""
    operation_id, _, contents = sign_bytes.partition(b"\0")
    return operation_id.decode(), tx.Contents.FromString(contents)


def signature_of(sign_bytes):
    return hmac.new(KEY, sign_bytes, hashlib.sha256).digest()


class Adapter(services.AdapterServiceServicer):
    def __init__(self):
        self.chain, self.lock = Chain(), threading.Lock()

    def GetDescriptor(self, request, context):
        limits = pb.Limits(min_delegation_base_units=str(LEAST), max_unbonding_entries=7, max_validators=16,
                           delegation_unit_base_units="1")
        return pb.GetDescriptorResponse(
            chain="toy-1", asset="TOY", decimals=3, staking_address=STAKING, custody_address=CUSTODY,
            unbonding_seconds=UNBONDING, epoch_seconds=60, reward_style=pb.REWARD_STYLE_COMPOUNDING,
            withdraw_style=pb.WITHDRAW_STYLE_AUTOMATIC, limits=limits, finality_seconds=1, stake_move_seconds=1,
            fee_estimate_base_units=str(FEE), rounding_base_units="0", simulated=True)

    def Observe(self, request, context):
        with self.lock:
            head = self.chain.head()
            liquid, staked, unbonding = self.chain.state(head)  # O1: all of one height
        seen = pb.ObserveResponse(height=head, at_seconds=self.chain.at(head), liquid_base_units=str(liquid))
        for name, units in staked.items():
            seen.validators.add(id=name, status=pb.VALIDATOR_STATUS_ACTIVE, commission="0.05", tokens_base_units=str(units))
            if units:
                seen.delegations.add(validator=name, amount_base_units=str(units), pending_reward_base_units="0",
                                     redelegation_locked_base_units="0")
        for name, units, matures in unbonding:
            seen.unbondings.add(validator=name, amount_base_units=str(units), matures_at_seconds=matures)
        return seen

    def Prepare(self, request, context):
        with self.lock:
            if not request.operation_id or (why := self.chain.problem(request.operation)):
                context.abort(grpc.StatusCode.FAILED_PRECONDITION, why if request.operation_id else "no operation_id")
            lifetime = tx.Lifetime(nonce=self.chain.nonce, expires_height=self.chain.head() + LIFE)  # P4, P5
        leaves = request.operation.WhichOneof("kind") == "send_to_custody"
        contents = tx.Contents(operation=request.operation, sender=STAKING, recipient=CUSTODY if leaves else None,
                               max_fee_base_units=str(FEE), lifetime=lifetime)
        sign_bytes = request.operation_id.encode() + b"\0" + contents.SerializeToString(deterministic=True)
        return pb.PrepareResponse(sign_bytes=sign_bytes, contents=decode(sign_bytes)[1])

    def Assemble(self, request, context):
        if not hmac.compare_digest(signature_of(request.sign_bytes), request.signature):
            context.abort(grpc.StatusCode.DATA_LOSS, "the signature is none of these bytes")  # A1
        signed, contents = request.sign_bytes + request.signature, decode(request.sign_bytes)[1]
        name = hashlib.sha256(signed).hexdigest()  # A3
        return pb.AssembleResponse(
            transaction=pb.Transaction(signed_bytes=signed, id=name, lifetime=contents.lifetime), contents=contents)

    def Submit(self, request, context):
        body, signature = request.transaction.signed_bytes[:-32], request.transaction.signed_bytes[-32:]
        name = hashlib.sha256(request.transaction.signed_bytes).hexdigest()
        if not hmac.compare_digest(signature_of(body), signature) or decode(body)[0] != request.operation_id:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no transaction of this operation")  # S3
        contents = decode(body)[1]
        with self.lock:
            known = self.chain.ended.get(request.operation_id)
            if known and known[0].key.transaction == name:
                return pb.SubmitResponse()  # S1, S2
            late = self.chain.head() >= contents.lifetime.expires_height or contents.lifetime.nonce != self.chain.nonce
            if why := "its life has ended" if known or late else self.chain.problem(contents.operation):
                context.abort(grpc.StatusCode.FAILED_PRECONDITION, why)
            self.chain.include(name, request.operation_id, contents.operation)
        return pb.SubmitResponse()

    def Lookup(self, request, context):
        with self.lock:
            head, effects, nonce = self.chain.head(), self.chain.ended.get(request.operation_id), self.chain.nonce
        life = request.transaction.lifetime
        if effects and effects[0].height <= head:
            return pb.LookupResponse(done=pb.Done(height=effects[0].height, effects=effects))  # L2
        if effects:
            return pb.LookupResponse(pending=pb.Pending())
        if life.expires_height <= head or life.nonce < nonce:
            return pb.LookupResponse(absent_for_good=pb.AbsentForGood())  # L1
        return pb.LookupResponse(absent=pb.Absent())

    def ListEffects(self, request, context):
        with self.lock:
            head, effects = self.chain.head(), list(self.chain.effects)
        if not request.from_height <= request.to_height <= head:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"the last final height is {head}")  # E3
        wanted = [effect for effect in effects if request.from_height < effect.height <= request.to_height]
        begin, end = int(request.page_token or 0), int(request.page_token or 0) + request.page_size
        return pb.ListEffectsResponse(effects=wanted[begin:end], next_page_token=str(end) if end < len(wanted) else "")


class Signer(signer_services.SignerServiceServicer):
    def Sign(self, request, context):
        if (request.chain, request.key_id) != ("toy-1", KEY_ID):
            context.abort(grpc.StatusCode.NOT_FOUND, f"there is one key here, {KEY_ID} of toy-1")
        if decode(request.sign_bytes) != (request.operation_id, request.contents):
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "the bytes say something else")
        return signing.SignResponse(signature=signature_of(request.sign_bytes))


server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
services.add_AdapterServiceServicer_to_server(Adapter(), server)
signer_services.add_SignerServiceServicer_to_server(Signer(), server)
host, port = arguments.listen.rsplit(":", 1)[0], server.add_insecure_port(arguments.listen)
server.start()
print(f"adapter and signer at http://{host}:{port}, key {KEY_ID}", flush=True)
server.wait_for_termination()
