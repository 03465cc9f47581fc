# SPDX-License-Identifier: Apache-2.0

mock_provider "libvirt" {}

run "the_inventory_is_the_example_s" {
  command = plan

  assert {
    condition = {
      for group, g in output.inventory.all.children.gateways.children : group => { for host, vars in g.hosts : host => vars.ansible_host }
      } == {
      for group, g in yamldecode(file("../../../inventories/example/hosts.yml")).all.children.gateways.children :
      group => { for host, vars in g.hosts : host => vars.ansible_host }
    }
    error_message = "The example's gateways are not those of inventories/example/hosts.yml."
  }
}

run "plain_tcp_to_the_hypervisor_is_refused" {
  command = plan

  variables {
    libvirt_uri = "qemu+tcp://hypervisor.example/system"
  }

  expect_failures = [var.libvirt_uri]
}
