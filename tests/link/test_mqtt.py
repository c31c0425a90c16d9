"""The link over a real mosquitto, with TLS, client certificates and the access list of config/mosquitto."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiomqtt
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from agent.errors import ConfigError, MalformedInput, Refused, TransientError, Unreachable
from agent.link.mqtt import LinkState, MqttAgencyTransport, MqttDeviceLink, topic_in, topic_out
from agent.link.transport import MAX_SEALED_BYTES
from tests.support.broker import Authority

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from agent.link.post_settings import MqttSettings
    from agent.link.transport import Transport
    from tests.support.broker import Broker

DEVICE = "d0" * 16
OTHER_DEVICE = "d1" * 16
AGENCY = "a0" * 16
OTHER_AGENCY = "a1" * 16


class Core:
    """Stands in for core behind the seam: remembers what it was given and answers as told."""

    def __init__(self) -> None:
        self.got: list[tuple[str, bytes]] = []
        self.arrived = asyncio.Event()
        self.away = False

    async def submit(self, agency: str, sealed: bytes) -> bytes | None:
        self.got.append((agency, sealed))
        self.arrived.set()
        if self.away:
            raise TransientError("core: away")
        return None if sealed.startswith(b"news") else b"re:" + sealed


@asynccontextmanager
async def running(link: MqttDeviceLink) -> AsyncIterator[MqttDeviceLink]:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(link.run())
        yield link
        task.cancel()


async def reached(state: Callable[[], LinkState], condition: Callable[[LinkState], bool]) -> LinkState:
    """Wait until the state is as wanted; the test fails after ten seconds."""
    async with asyncio.timeout(10):
        while not condition(state()):
            await asyncio.sleep(0.005)
    return state()


async def connected(end: MqttDeviceLink | MqttAgencyTransport) -> LinkState:
    return await reached(end.state, lambda state: state.connected)


async def first(messages: AsyncIterator[bytes]) -> bytes:
    async with asyncio.timeout(10):
        return await anext(messages)


@asynccontextmanager
async def stranger(
    settings: MqttSettings, identity: str, *, listen: str = "#"
) -> AsyncIterator[aiomqtt.Client]:
    """Somebody else's client with a certificate of the post: sees all the post lets it see."""
    async with aiomqtt.Client(
        settings.host,
        settings.port,
        identifier=identity,
        protocol=aiomqtt.ProtocolVersion.V5,
        tls_context=settings.tls_context(),
    ) as client:
        await client.subscribe(listen, qos=1)
        yield client


def pieces(number: int) -> list[bytes]:
    return [f"message {index}".encode() for index in range(number)]


async def test_request_and_reply_cross_the_post_in_order(broker: Broker) -> None:
    core = Core()
    link = MqttDeviceLink(broker.settings(DEVICE), DEVICE, agencies=[AGENCY], submit=core.submit)
    async with MqttAgencyTransport(broker.settings(AGENCY), AGENCY) as transport, running(link):
        port: Transport = transport
        await connected(link)
        for sealed in pieces(10):
            await port.send(DEVICE, sealed)
        replies = port.messages(DEVICE)
        assert [await first(replies) for _ in range(10)] == [b"re:" + sealed for sealed in pieces(10)]
    assert core.got == [(AGENCY, sealed) for sealed in pieces(10)]


async def test_largest_message_passes_and_one_byte_more_is_refused_before_it_leaves(broker: Broker) -> None:
    core = Core()
    link = MqttDeviceLink(broker.settings(DEVICE), DEVICE, agencies=[AGENCY], submit=core.submit)
    largest = b"news" + bytes(MAX_SEALED_BYTES - 4)
    async with MqttAgencyTransport(broker.settings(AGENCY), AGENCY) as transport, running(link):
        await connected(link)
        await transport.send(DEVICE, largest)
        await link.publish(AGENCY, largest)
        assert await first(transport.messages(DEVICE)) == largest
        for sealed in (largest + b"x", b""):
            with pytest.raises(MalformedInput, match="expected 1 to 262144"):
                await transport.send(DEVICE, sealed)
            with pytest.raises(MalformedInput):
                await link.publish(AGENCY, sealed)
    assert core.got == [(AGENCY, largest)]


@pytest.mark.parametrize("name", ["", "d0", "D0" * 16, "+", "#", "../" + "d0" * 15, "d0" * 16 + "\n"])
async def test_a_name_that_is_no_key_id_never_reaches_a_topic(broker: Broker, name: str) -> None:
    async with MqttAgencyTransport(broker.settings(AGENCY), AGENCY) as transport:
        with pytest.raises(MalformedInput, match="link name"):
            await transport.send(name, b"x")
    with pytest.raises(MalformedInput, match="link name"):
        MqttDeviceLink(broker.settings(DEVICE), DEVICE, agencies=[name], submit=Core().submit)


async def test_foreign_agency_and_device_neither_reach_nor_hear_a_conversation(broker: Broker) -> None:
    core = Core()
    link = MqttDeviceLink(broker.settings(DEVICE), DEVICE, agencies=[AGENCY], submit=core.submit)
    agency, device = broker.settings(OTHER_AGENCY), broker.settings(OTHER_DEVICE)
    async with (
        MqttAgencyTransport(broker.settings(AGENCY), AGENCY) as transport,
        running(link),
        stranger(agency, OTHER_AGENCY) as foreign_agency,
        stranger(device, OTHER_DEVICE) as foreign_device,
    ):
        await connected(link)
        await connected(transport)
        for client in (foreign_agency, foreign_device):
            # The post may grant the subscription and accept the message: what counts is what is delivered.
            await client.subscribe(topic_in(AGENCY, DEVICE), qos=1)
            await client.subscribe(topic_out(AGENCY, "+"), qos=1)
            await client.publish(topic_in(AGENCY, DEVICE), b"forged request", qos=1)
            await client.publish(topic_out(AGENCY, DEVICE), b"forged reply", qos=1)
        await transport.send(DEVICE, b"genuine")
        assert await first(transport.messages(DEVICE)) == b"re:genuine"
        # Each hears its own topics still, so nothing else was on its way to it.
        await foreign_agency.publish(topic_in(OTHER_AGENCY, OTHER_DEVICE), b"marker", qos=1)
        await foreign_device.publish(topic_out(OTHER_AGENCY, OTHER_DEVICE), b"marker", qos=1)
        for client in (foreign_agency, foreign_device):
            assert (await first_payload(client)) == b"marker"
    assert core.got == [(AGENCY, b"genuine")]
    assert transport.state().received == 1


async def first_payload(client: aiomqtt.Client) -> object:
    async with asyncio.timeout(10):
        return (await anext(aiter(client.messages))).payload


async def test_a_device_cannot_forge_its_own_requests_nor_an_agency_its_own_replies(broker: Broker) -> None:
    core = Core()
    device, agency = broker.settings(DEVICE), broker.settings(AGENCY)
    link = MqttDeviceLink(device, OTHER_DEVICE, agencies=[AGENCY], submit=core.submit)
    async with MqttAgencyTransport(agency, AGENCY) as transport, running(link):
        # A certificate for one name, used under another: the post's answer is the error.
        with pytest.raises(Refused, match="may not publish"):
            await link.publish(AGENCY, b"from the wrong device")
    async with stranger(agency, AGENCY) as client, running(link):
        await client.publish(topic_out(AGENCY, DEVICE), b"reply from myself", qos=1)
        await client.publish(topic_in(AGENCY, OTHER_DEVICE), b"for another", qos=1)
        await client.publish(topic_in(AGENCY, DEVICE), b"for the certificate's name", qos=1)
        await connected(link)
    assert core.got == []
    assert transport.state().received == 0


async def test_without_a_certificate_of_the_post_nobody_connects(broker: Broker, tmp_path: Path) -> None:
    foreign = Authority(tmp_path, "foreign").issue(DEVICE)
    settings = dataclasses.replace(
        broker.settings(OTHER_DEVICE), certificate=foreign.certificate, key=foreign.key
    )
    link = MqttDeviceLink(settings, DEVICE, agencies=[AGENCY], submit=Core().submit)
    async with running(link):
        state = await reached(link.state, lambda state: state.failures >= 2)
        assert not state.connected
        assert state.error is not None
        with pytest.raises(Unreachable, match=r"message not taken in 0\.1 s"):
            await link.publish(AGENCY, b"x", wait_s=0.1)
    context = ssl.create_default_context(cafile=settings.ca)
    with (
        socket.create_connection(("127.0.0.1", broker.port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as bare,
        pytest.raises(OSError, match=r"certificate required|handshake failure"),
    ):
        bare.recv(1)


# paho leaves the socket of a failed handshake to the garbage collector.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
async def test_a_post_that_is_not_ours_gets_nothing(broker: Broker, tmp_path: Path) -> None:
    foreign = Authority(tmp_path, "foreign")
    settings = dataclasses.replace(broker.settings(DEVICE), ca=foreign.certificate)
    link = MqttDeviceLink(settings, DEVICE, agencies=[AGENCY], submit=Core().submit)
    async with running(link):
        state = await reached(link.state, lambda state: state.error is not None)
    assert not state.connected
    assert "certificate verify failed" in str(state.error)


def test_missing_or_broken_certificate_files_are_told_at_once(broker: Broker, tmp_path: Path) -> None:
    settings = broker.settings(DEVICE)
    with pytest.raises(ConfigError, match="no file"):
        dataclasses.replace(settings, key=tmp_path / "gone").tls_context()
    (tmp_path / "garbage").write_bytes(b"garbage")
    with pytest.raises(ConfigError, match="certificates"):
        dataclasses.replace(settings, key=tmp_path / "garbage").tls_context()
    for host, port in (("", 1), ("post", 0), ("post", 65536), ("x" * 64 + ".example", 1), ("a..b", 1)):
        with pytest.raises(ConfigError, match="post"):
            dataclasses.replace(settings, host=host, port=port)


async def test_messages_for_a_device_that_is_away_wait_at_the_post_even_over_its_restart(
    broker: Broker,
) -> None:
    core = Core()
    settings = broker.settings(DEVICE)
    async with running(MqttDeviceLink(settings, DEVICE, agencies=[AGENCY], submit=core.submit)) as link:
        await connected(link)
    async with MqttAgencyTransport(broker.settings(AGENCY), AGENCY) as transport:
        await transport.send(DEVICE, b"while you were out")
        broker.stop()
        await reached(transport.state, lambda state: not state.connected)
        broker.start()
        # A new link, as after a restart of net: the session is the certificate's.
        async with running(MqttDeviceLink(settings, DEVICE, agencies=[AGENCY], submit=core.submit)):
            assert await first(transport.messages(DEVICE)) == b"re:while you were out"
    assert core.got == [(AGENCY, b"while you were out")]


async def test_post_killed_and_back_both_ends_return_by_themselves(broker: Broker) -> None:
    core = Core()
    link = MqttDeviceLink(broker.settings(DEVICE), DEVICE, agencies=[AGENCY], submit=core.submit)
    async with MqttAgencyTransport(broker.settings(AGENCY), AGENCY) as transport, running(link):
        await connected(link)
        await connected(transport)
        broker.kill()
        for end in (link, transport):
            state = await reached(end.state, lambda state: not state.connected and state.failures >= 2)
            assert state.error is not None
            assert "\n" not in state.error
            await reached(end.state, lambda state: state.next_attempt_s is not None)
        broker.start()
        await connected(link)
        await connected(transport)
        assert link.state().error is None
        await transport.send(DEVICE, b"back")
        assert await first(transport.messages(DEVICE)) == b"re:back"


async def test_publications_wait_for_the_post_and_go_out_in_order(broker: Broker) -> None:
    link = MqttDeviceLink(broker.settings(DEVICE), DEVICE, submit=Core().submit)
    broker.kill()
    async with (
        MqttAgencyTransport(broker.settings(AGENCY), AGENCY) as transport,
        asyncio.TaskGroup() as group,
    ):
        for news in pieces(5):
            group.create_task(link.publish(AGENCY, news))
        await reached(link.state, lambda state: state.waiting == 5)
        broker.start()
        messages = transport.messages(DEVICE)
        async with running(link):  # Whoever is back first: a killed post has forgotten who listens.
            assert [await first(messages) for _ in range(5)] == pieces(5)
        assert link.state().sent == 5


async def test_a_publication_that_nobody_takes_ends_and_is_forgotten(broker: Broker) -> None:
    link = MqttDeviceLink(broker.settings(DEVICE), DEVICE, submit=Core().submit)
    broker.kill()
    async with running(link):
        with pytest.raises(Unreachable, match=r"not taken in 0\.05 s"):
            await link.publish(AGENCY, b"late", wait_s=0.05)
        async with asyncio.TaskGroup() as group:
            waiting = [group.create_task(link.publish(AGENCY, b"x")) for _ in range(16)]
            await reached(link.state, lambda state: state.waiting == 16)
            with pytest.raises(TransientError, match="too much is waiting"):
                await link.publish(AGENCY, b"one more")
            other = group.create_task(link.publish(OTHER_AGENCY, b"for another"))
            await reached(link.state, lambda state: state.waiting == 17)
            for task in (*waiting, other):
                task.cancel()
        assert link.state().waiting == 0


async def test_a_message_to_somebody_who_was_never_there_waits_for_them_and_holds_up_nobody(
    broker: Broker,
) -> None:
    core = Core()
    link = MqttDeviceLink(broker.settings(DEVICE), DEVICE, agencies=[AGENCY], submit=core.submit)
    async with (
        MqttAgencyTransport(broker.settings(AGENCY), AGENCY) as transport,
        asyncio.TaskGroup() as group,
    ):
        await connected(transport)
        asking = [group.create_task(transport.send(DEVICE, sealed)) for sealed in pieces(3)]
        await reached(transport.state, lambda state: state.waiting == 3)
        async with running(link):
            replies = transport.messages(DEVICE)
            assert [await first(replies) for _ in range(3)] == [b"re:" + sealed for sealed in pieces(3)]
            await asyncio.gather(*asking)
            absent = group.create_task(link.publish(OTHER_AGENCY, b"anybody?"))
            await link.publish(AGENCY, b"present")
            assert await first(replies) == b"present"
            assert not absent.done()
            absent.cancel()
            with pytest.raises(Unreachable, match="nobody listens there"):
                await link.publish(OTHER_AGENCY, b"anybody?", wait_s=0.3)
    assert core.got == [(AGENCY, sealed) for sealed in pieces(3)]


async def test_retained_and_oversized_messages_are_dropped_and_the_link_lives(lax_broker: Broker) -> None:
    core = Core()
    link = MqttDeviceLink(lax_broker.settings(DEVICE), DEVICE, agencies=[AGENCY], submit=core.submit)
    topic = topic_in(AGENCY, DEVICE)
    async with stranger(lax_broker.settings(AGENCY), AGENCY) as agency:
        await agency.publish(topic, b"retained before", qos=1, retain=True)
        async with running(link):
            await connected(link)
            await agency.publish(topic, b"retained live", qos=1, retain=True)
            await agency.publish(topic, bytes(MAX_SEALED_BYTES + 1), qos=1)
            await agency.publish(topic, bytes(2 * MAX_SEALED_BYTES), qos=1)  # The post knows our limit.
            await agency.publish(topic, b"", qos=1)
            await agency.publish(topic, b"good", qos=1)
            async with asyncio.timeout(10):
                await core.arrived.wait()
            state = link.state()
    assert core.got == [(AGENCY, b"good")]
    assert (state.dropped_retained, state.dropped_oversized, state.received) == (1, 2, 1)


async def test_a_post_with_our_configuration_takes_nothing_retained_or_oversized(broker: Broker) -> None:
    core = Core()
    link = MqttDeviceLink(broker.settings(DEVICE), DEVICE, agencies=[AGENCY], submit=core.submit)
    topic = topic_in(AGENCY, DEVICE)
    async with running(link):
        await connected(link)
        for retain, sealed in ((True, b"retained"), (False, bytes(MAX_SEALED_BYTES + 1))):
            async with stranger(broker.settings(AGENCY), AGENCY) as agency:
                try:
                    await agency.publish(topic, sealed, qos=1, retain=retain, timeout=0.3)
                except aiomqtt.MqttError:
                    continue  # Thrown out for it, or told so.
        async with stranger(broker.settings(AGENCY), AGENCY) as agency:
            await agency.publish(topic, b"good", qos=1)
        async with asyncio.timeout(10):
            await core.arrived.wait()
        state = link.state()
    assert core.got == [(AGENCY, b"good")]
    assert (state.dropped_retained, state.dropped_oversized) == (0, 0)


async def test_the_same_publication_twice_is_delivered_once(broker: Broker) -> None:
    core = Core()
    link = MqttDeviceLink(broker.settings(DEVICE), DEVICE, agencies=[AGENCY], submit=core.submit)
    async with stranger(broker.settings(AGENCY), AGENCY) as agency, running(link):
        await connected(link)
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.CorrelationData = b"8 bytes!"
        for sealed in (b"news one", b"news one"):
            await agency.publish(topic_in(AGENCY, DEVICE), sealed, qos=1, properties=properties)
        await agency.publish(topic_in(AGENCY, DEVICE), b"news two", qos=1)
        await reached(link.state, lambda state: state.received == 2)
        assert link.state().dropped_repeated == 1
    assert core.got == [(AGENCY, b"news one"), (AGENCY, b"news two")]


async def test_what_leaves_is_not_retained_expires_and_leaves_no_will(broker: Broker) -> None:
    settings = broker.settings(DEVICE)
    assert settings.tls_context().minimum_version == ssl.TLSVersion.TLSv1_2
    assert settings.tls_context().verify_mode == ssl.CERT_REQUIRED
    assert settings.tls_context().check_hostname
    async with stranger(broker.settings(AGENCY), AGENCY) as agency:
        link = MqttDeviceLink(settings, DEVICE, agencies=[AGENCY], submit=Core().submit)
        async with running(link):
            await connected(link)
            await link.publish(AGENCY, b"news", expiry_s=100)
            # The same certificate again: the post throws the first connection out, as a crash would.
            async with stranger(settings, DEVICE) as second:
                await second.publish(topic_out(AGENCY, DEVICE), b"marker", qos=1)
        heard = aiter(agency.messages)
        async with asyncio.timeout(10):
            news, marker = await anext(heard), await anext(heard)
    assert (news.payload, marker.payload) == (b"news", b"marker")
    assert (news.qos, news.retain) == (1, False)
    assert news.properties is not None
    assert 0 < news.properties.MessageExpiryInterval <= 100  # type: ignore[attr-defined]


async def test_another_certificate_with_the_devices_client_id_does_not_throw_it_out(broker: Broker) -> None:
    core = Core()
    link = MqttDeviceLink(broker.settings(DEVICE), DEVICE, agencies=[AGENCY], submit=core.submit)
    async with MqttAgencyTransport(broker.settings(AGENCY), AGENCY) as transport, running(link):
        await connected(link)
        async with stranger(broker.settings(OTHER_DEVICE), DEVICE, listen=topic_in(AGENCY, DEVICE)):
            await transport.send(DEVICE, b"still there")
            assert await first(transport.messages(DEVICE)) == b"re:still there"
        state = link.state()
    assert (state.connected, state.failures) == (True, 0)


async def test_agencies_change_while_running_and_a_removed_one_is_heard_no_more(broker: Broker) -> None:
    core = Core()
    settings = broker.settings(DEVICE)
    async with (
        MqttAgencyTransport(broker.settings(AGENCY), AGENCY, send_wait_s=1) as old,
        MqttAgencyTransport(broker.settings(OTHER_AGENCY), OTHER_AGENCY) as new,
    ):
        async with running(MqttDeviceLink(settings, DEVICE, agencies=[AGENCY], submit=core.submit)) as link:
            await connected(link)
            await old.send(DEVICE, b"news from the old")
            async with asyncio.timeout(10):
                await core.arrived.wait()
        # The post still holds the old subscription; the new link knows nothing of it.
        await old.send(DEVICE, b"too late")
        async with running(MqttDeviceLink(settings, DEVICE, submit=core.submit)) as link:
            await reached(link.state, lambda state: state.dropped_foreign == 1)
            link.set_agencies([OTHER_AGENCY])
            await new.send(DEVICE, b"hello")
            assert await first(new.messages(DEVICE)) == b"re:hello"
            with pytest.raises(Unreachable, match="nobody listens there"):
                await old.send(DEVICE, b"far too late")
            assert link.state().dropped_foreign == 1
    assert [sealed for agency, sealed in core.got if agency == AGENCY] == [b"news from the old"]


async def test_core_away_costs_that_message_and_not_the_link(broker: Broker) -> None:
    core = Core()
    core.away = True
    link = MqttDeviceLink(broker.settings(DEVICE), DEVICE, agencies=[AGENCY], submit=core.submit)
    async with MqttAgencyTransport(broker.settings(AGENCY), AGENCY) as transport, running(link):
        await connected(link)
        await transport.send(DEVICE, b"lost")
        async with asyncio.timeout(10):
            await core.arrived.wait()
        core.away = False
        await transport.send(DEVICE, b"found")
        assert await first(transport.messages(DEVICE)) == b"re:found"
    assert link.failed == 1


async def test_an_agency_that_floods_loses_its_own_messages_and_delays_nobody(broker: Broker) -> None:
    release = asyncio.Event()
    got: list[tuple[str, bytes]] = []

    async def submit(agency: str, sealed: bytes) -> bytes | None:
        got.append((agency, sealed))
        if agency == AGENCY:
            await release.wait()
        return b"re:" + sealed

    link = MqttDeviceLink(broker.settings(DEVICE), DEVICE, agencies=[AGENCY, OTHER_AGENCY], submit=submit)
    async with (
        MqttAgencyTransport(broker.settings(AGENCY), AGENCY) as flooding,
        MqttAgencyTransport(broker.settings(OTHER_AGENCY), OTHER_AGENCY) as patient,
        running(link),
    ):
        await connected(link)
        for sealed in pieces(40):
            await flooding.send(DEVICE, sealed)
        await patient.send(DEVICE, b"me too")
        assert await first(patient.messages(DEVICE)) == b"re:me too"
        assert link.dropped_full == 40 - 1 - 16
        release.set()
        replies = flooding.messages(DEVICE)
        assert [await first(replies) for _ in range(17)] == [b"re:" + sealed for sealed in pieces(17)]


async def test_iterators_end_with_the_transport_after_what_waits(broker: Broker) -> None:
    link = MqttDeviceLink(broker.settings(DEVICE), DEVICE, submit=Core().submit)
    async with running(link):
        async with MqttAgencyTransport(broker.settings(AGENCY), AGENCY) as transport:
            await connected(transport)
            await link.publish(AGENCY, b"one")
            await reached(transport.state, lambda state: state.received == 1)
            messages = transport.messages(DEVICE)
        assert [sealed async for sealed in messages] == [b"one"]


async def test_leaving_while_the_post_is_away_takes_no_time(broker: Broker) -> None:
    broker.kill()
    loop = asyncio.get_running_loop()
    begun = loop.time()
    for _ in range(10):
        async with MqttAgencyTransport(broker.settings(AGENCY), AGENCY):
            await asyncio.sleep(0)
    assert loop.time() - begun < 5
