# SPDX-License-Identifier: Apache-2.0
"""Many services at once: as Kubernetes objects, and as the rules kube-proxy writes for iptables.

Service number i has the i-th address from FIRST_VIPS on, in both families, and as endpoints every
server of the pair.
"""

import ipaddress
import subprocess

from lab import HTTP_PORT, PORT, address_of
from tendril import service_object, slice_object
from workload import NotRun

FIRST_VIPS = {4: "10.96.0.10", 6: "fd00:96::10"}
POD_CIDRS = {4: "10.201.0.0/16", 6: "fd00:201::/112"}
PORTS = (("tcp", PORT, "TCP"), ("udp", PORT, "UDP"), ("http", HTTP_PORT, "TCP"))


def vip(family, i):
    return str(ipaddress.ip_address(FIRST_VIPS[family]) + i)


# ---- objects ----

def service_objects(i, endpoints, ports=PORTS[:1], families=(4, 6)):
    """Service number i; endpoints are lists of a pod's addresses, one of each family."""
    name = f"s{i}"
    slice_ports = [{"name": n, "port": p, "protocol": proto} for n, p, proto in ports]
    return [service_object(name, "default", [vip(family, i) for family in families],
                           [dict(p, targetPort=p["port"]) for p in slice_ports]),
            *(slice_object(f"{name}-ipv{family}", "default", name, f"IPv{family}", slice_ports,
                           [address_of(addresses, family) for addresses in endpoints])
              for family in families)]


# ---- iptables, in kube-proxy's layout ----

HEAD = """*nat
:KUBE-SERVICES - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-MARK-MASQ - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000
-A KUBE-POSTROUTING -j MASQUERADE --random-fully
-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000
"""
TAIL = """-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
COMMIT
*filter
:KUBE-FORWARD - [0:0]
:KUBE-SERVICES - [0:0]
-A FORWARD -m conntrack --ctstate NEW -j KUBE-SERVICES
-A FORWARD -j KUBE-FORWARD
-A OUTPUT -m conntrack --ctstate NEW -j KUBE-SERVICES
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
"""


def rules_of(i, family, endpoints):
    """The chains and the rules of service number i's TCP port."""
    service, comment = f"KUBE-SVC-{i:016d}", f'-m comment --comment "default/s{i}:tcp"'
    to = f"-d {vip(family, i)} -p tcp -m tcp --dport {PORT}"
    chains = [f":{service} - [0:0]"]
    rules = [f'-A KUBE-SERVICES {to} {comment} -j {service}',
             f"-A {service} ! -s {POD_CIDRS[family]} {to} {comment} -j KUBE-MARK-MASQ"]
    for e, address in enumerate(endpoints):
        endpoint, left = f"KUBE-SEP-{i:013d}{e:03d}", len(endpoints) - e
        target = f"[{address}]:{PORT}" if family == 6 else f"{address}:{PORT}"
        chance = f"-m statistic --mode random --probability {1 / left:.11f} " if left > 1 else ""
        chains.append(f":{endpoint} - [0:0]")
        rules += [f"-A {service} {comment} {chance}-j {endpoint}",
                  f"-A {endpoint} -s {address} {comment} -j KUBE-MARK-MASQ",
                  f"-A {endpoint} -p tcp {comment} -m tcp -j DNAT --to-destination {target}"]
    return chains, rules


def iptables_text(n, family, endpoints):
    """What iptables-restore reads for n services."""
    both = [rules_of(i, family, endpoints) for i in range(n)]
    table, rest = HEAD.split("-A PREROUTING", 1)
    lines = [table + "\n".join(line for chains, _ in both for line in chains),
             "-A PREROUTING" + rest + "\n".join(line for _, rules in both for line in rules), TAIL]
    return "\n".join(lines)


def iptables_load(namespace, kind, n, endpoints, limit, families=(4, 6)):
    """Loads n services, kind "nft" or "legacy"; NotRun where it takes too long."""
    for family in families:
        program = "iptables" if family == 4 else "ip6tables"
        text = iptables_text(n, family, [address_of(addresses, family) for addresses in endpoints])
        try:
            subprocess.run(namespace.enter(f"{program}-{kind}-restore"), input=text, text=True,
                           check=True, capture_output=True, timeout=limit)
        except FileNotFoundError:
            raise NotRun(f"there is no {program}-{kind}-restore") from None
        except subprocess.TimeoutExpired:
            raise NotRun(f"loading takes more than {limit} s") from None
        except subprocess.CalledProcessError as failed:
            raise NotRun(f"{program}-{kind}-restore: {failed.stderr.strip()[:200]}") from None
