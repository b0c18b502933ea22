# SPDX-License-Identifier: Apache-2.0
"""What is exported for Prometheus, with its own tools: the alert rules and the dashboard
in packaging/prometheus."""
import contextlib
import glob
import http
import http.server
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import urllib.error
import urllib.parse
import urllib.request

from lab import run, wait_for
from suite import expect
from test_top import parse_openmetrics, top, traffic

HERE = os.path.dirname(os.path.abspath(__file__))
PACKAGING = os.path.join(HERE, '../../packaging/prometheus')
RULES = PACKAGING + '/ovs-offload.rules.yml'
DASHBOARD = PACKAGING + '/ovs-offload-dashboard.json'
# Of others, or made by a rule.
NOT_OURS = {'node_textfile_mtime_seconds'}
# Rules whose expressions are true on this lab: the others must not be.
FIRING = {'OvsOffloadPortTakesNoFrames'}


def dashboard_expressions():
    with open(DASHBOARD) as f:
        panels = json.load(f)['panels']
    for panel in panels:
        for target in panel['targets']:
            yield panel['title'], (target['expr'].replace('$instance', '.*')
                                   .replace('$__rate_interval', '1m'))


def test_names(context):
    """The rules and the dashboard name only metrics that are exported"""
    with context.lab() as lab, traffic(lab):
        classic = top(lab, '--prometheus')
        # One that has lost nothing has no sample of every reason.
        exported = set(re.findall(r'^# HELP (\S+)', classic, re.MULTILINE))
        types = set(re.findall(r'^# TYPE \S+ (\S+)$', classic, re.MULTILINE))
        expect({name for name, _ in parse_openmetrics(top(lab, '--openmetrics'))}
               == exported, 'the two formats have different metrics')
        expect(types == {'counter', 'gauge'}, 'types: %s', types)
    with open(RULES) as f:
        text = f.read()
    text += '\n'.join(expr for _, expr in dashboard_expressions())
    used = set(re.findall(r'\b(?:ovs_offload|node)_\w+', text)) - NOT_OURS
    expect(used - exported == set(), 'not exported: %s', used - exported)
    context.note('%d of %d metrics used', len(used), len(exported))


# -- With Prometheus ----------------------------------------------------------

def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


@contextlib.contextmanager
def exporter(path):
    """A web server on a port of its own, which answers with a file."""
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            with open(path, 'rb') as f:
                body = f.read()
            self.send_response(200)
            self.send_header('Content-Type', 'text/plain; version=0.0.4')
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


CONFIG = '''
global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}
rule_files: [ovs-offload.rules.yml]
scrape_configs:
  - job_name: node
    static_configs: [{targets: ["127.0.0.1:%d"]}]
'''


class Prometheus:
    """One of its own, on loopback, that is ended with the context."""

    def __init__(self, programs, target):
        self.port, self.dir = free_port(), tempfile.mkdtemp(prefix='ovs-offload-prom.')
        shutil.copy(RULES, self.dir)
        with open(self.dir + '/prometheus.yml', 'w') as f:
            f.write(CONFIG % target)
        with open(self.dir + '/log', 'w') as log:
            self.process = subprocess.Popen(
                [programs + '/prometheus', '--config.file=prometheus.yml',
                 '--storage.tsdb.path=data', '--log.level=warn',
                 '--web.listen-address=127.0.0.1:%d' % self.port],
                cwd=self.dir, stdout=log, stderr=log, start_new_session=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        shutil.rmtree(self.dir)

    def get(self, path, **query):
        url = 'http://127.0.0.1:%d/api/v1/%s?%s' % (self.port, path,
                                                     urllib.parse.urlencode(query))
        try:
            with urllib.request.urlopen(url, timeout=10) as reply:
                return json.load(reply)['data']
        except urllib.error.HTTPError as e:
            if e.code == http.HTTPStatus.SERVICE_UNAVAILABLE:
                return {}            # It is not ready yet.
            raise RuntimeError('%s: %s' % (query, e.read().decode())) from None
        except OSError:              # It is not up yet.
            return {}

    def query(self, expression):
        return self.get('query', query=expression).get('result', [])


def test_prometheus(context):
    """promtool finds nothing to say; Prometheus evaluates every rule and panel"""
    programs = run(HERE + '/get-package', 'prometheus').strip() + '/usr/bin'
    promtool = programs + '/promtool'
    run(promtool, 'check', 'rules', '--lint-fatal', RULES)
    run(promtool, 'test', 'rules', *glob.glob(PACKAGING + '/*.test.yml'))
    with context.lab(3) as lab, traffic(lab):
        # Some flows are refused, and a port takes no frames.
        lab.ovs.ofctl('add-flow', 'br0',
                      'priority=1,udp,udp_dst=7001,actions=CONTROLLER,NORMAL')
        lab.hosts[2].run('ethtool', '-K', 'eth0', 'gro', 'off')
        wait_for('no transmit', lambda: ' 0.0\n' in ''.join(re.findall(
            r'^ovs_offload_port_transmits\{.*\n', top(lab, '--prometheus'), re.MULTILINE)))
        said = subprocess.run([promtool, 'check', 'metrics'], text=True,
                              input=top(lab, '--prometheus'), stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT)
        expect(said.returncode == 0 and not said.stdout, '%s', said.stdout)
        file = lab.tmp + '/offload.prom'
        top(lab, '--prometheus', file)

        def rates():
            top(lab, '--prometheus', file)
            return prometheus.query('rate(ovs_offload_port_bytes_total[1m]) > 0')
        with exporter(file) as target, Prometheus(programs, target) as prometheus:
            wait_for('rates', rates, 60, 0.5)
            empty = {title for title, expr in dashboard_expressions()
                     if not prometheus.query(expr)}
            expect(not empty, 'panels without data: %s', empty)
            rules = prometheus.get('rules')['groups'][0]['rules']
            bad = [r for r in rules if r['health'] != 'ok']
            expect(not bad, '%s', bad)
            active = {r['name'] for r in rules if r.get('alerts')}
            expect(active == FIRING, 'alerts: %s', active)
    context.note('%d rules, %d panels', len(rules), len(list(dashboard_expressions())))


TESTS = [
    ('prometheus-names', test_names),
    ('prometheus', test_prometheus),
]
