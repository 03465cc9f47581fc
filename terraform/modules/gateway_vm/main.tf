# SPDX-License-Identifier: Apache-2.0

locals {
  # The same for ever: a domain that is made anew finds the state of its TPM again, and the machine its identity.
  uuid = uuidv5("url", "lockgate:${var.segment}/${var.name}")

  interfaces = [for i in var.interfaces : merge(i, {
    mac = lower(coalesce(i.mac, join(":", concat(["52", "54", "00"], regexall("..", substr(sha256("${var.segment}/${var.name}/${i.name}"), 0, 6))))))
  })]

  # policy/, trust/ and gateway.yaml of the contract and nothing else: credentials/ and tls/ hold secrets and never come here.
  segment_files = var.segment_folder == null ? {} : {
    for path in setunion(fileset(var.segment_folder, "{policy,trust}/**"), fileset(var.segment_folder, "gateway.yaml")) : path => file("${var.segment_folder}/${path}")
  }

  # Data, never text that somebody fills in: first boot reads one JSON document and checks it.
  firstboot = {
    version      = 1
    name         = var.name
    segment      = var.segment
    interfaces   = [for i in local.interfaces : { for key in ["name", "mac", "addresses", "gateway", "routes"] : key => i[key] }]
    name_servers = var.name_servers
    time_servers = var.time_servers
    management   = var.management
  }

  # Everything base64: nothing in a value can end an entry or begin another.
  credentials = merge(
    { for name, value in var.credentials : name => base64encode(value) },
    { "lockgate.firstboot" = base64encode(jsonencode(local.firstboot)) },
    length(local.segment_files) == 0 ? {} : { "lockgate.segment" = base64gzip(jsonencode(local.segment_files)) },
  )
  smbios = [for name, value in local.credentials : "io.systemd.credential.binary:${name}=${value}"]

  # SMBIOS tables end at 64 KiB, and the firmware has its own in there.
  smbios_limit = 49152

  cpu_modes = ["host-passthrough", "host-model", "maximum"]
}

resource "libvirt_volume" "image" {
  name   = "${var.name}-image"
  pool   = var.pool
  source = var.image

  lifecycle {
    # A newer image is an update inside the running gateway. Here it would be the end of its disk, and of the audit log on it.
    ignore_changes = [source]
  }
}

resource "libvirt_volume" "disk" {
  name           = "${var.name}-disk"
  pool           = var.pool
  format         = "qcow2"
  base_volume_id = libvirt_volume.image.id
  size           = var.disk_gib * 1073741824

  lifecycle {
    # A growing disk is grown in place by the operator; the provider could only replace it.
    ignore_changes = [base_volume_id, size]
  }
}

resource "libvirt_domain" "gateway" {
  name        = var.name
  description = "Lockgate gateway ${var.name} of segment ${var.segment}"
  type        = var.domain_type
  machine     = "q35"
  arch        = "x86_64"
  memory      = var.memory_mib
  vcpu        = var.vcpus
  autostart   = true
  firmware    = var.firmware.code

  nvram {
    template = var.firmware.variables
  }

  dynamic "cpu" {
    for_each = contains(local.cpu_modes, var.cpu) ? [var.cpu] : []

    content {
      mode = cpu.value
    }
  }

  tpm {
    backend_type             = "emulator"
    backend_version          = "2.0"
    backend_persistent_state = true
  }

  disk {
    volume_id = libvirt_volume.disk.id
  }

  dynamic "network_interface" {
    for_each = local.interfaces

    content {
      network_id = network_interface.value.network_id
      bridge     = network_interface.value.bridge
      mac        = upper(network_interface.value.mac)
    }
  }

  # What the provider has no arguments for.
  xml {
    xslt = templatefile("${path.module}/templates/domain.xslt", {
      uuid        = local.uuid
      smbios      = local.smbios
      cpu_model   = contains(local.cpu_modes, var.cpu) ? "" : var.cpu
      console_log = var.console_log
    })
  }

  lifecycle {
    # First boot has been: a changed key or policy is Ansible's to bring, not a reason to make the machine anew.
    ignore_changes = [xml]

    precondition {
      condition     = sum([for entry in local.smbios : length(entry) + 1]) <= local.smbios_limit
      error_message = "What first boot gets is larger than SMBIOS can carry (${local.smbios_limit} bytes). Leave out segment_folder: Ansible brings the policy."
    }

    precondition {
      condition     = !anytrue([for path, text in local.segment_files : strcontains(text, "PRIVATE KEY")])
      error_message = "There is a private key in the segment's folder. Secrets never go by Terraform: they would stay in its state."
    }

    precondition {
      condition     = alltrue([for path in keys(local.segment_files) : can(regex("^((policy|trust)(/[A-Za-z0-9][A-Za-z0-9._-]{0,63}){1,8}|gateway\\.yaml)$", path))])
      error_message = "A file's name in the segment's folder has letters, digits and . _ -, and does not begin with a dot: first boot takes no other."
    }

    precondition {
      condition     = var.segment_folder == null || length(local.segment_files) > 0
      error_message = "The segment's folder has neither policy/ nor trust/: ${coalesce(var.segment_folder, "-")}."
    }
  }
}
