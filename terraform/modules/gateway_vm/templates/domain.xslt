<?xml version="1.0" encoding="UTF-8"?>
<!-- SPDX-License-Identifier: Apache-2.0 -->
<xsl:stylesheet version="1.0" xmlns:xsl="http://www.w3.org/1999/XSL/Transform">
  <xsl:output omit-xml-declaration="yes" indent="yes"/>

  <xsl:template match="node()|@*">
    <xsl:copy><xsl:apply-templates select="node()|@*"/></xsl:copy>
  </xsl:template>

  <!-- An identity of its own, and what first boot reads. -->
  <xsl:template match="/domain">
    <xsl:copy>
      <xsl:apply-templates select="@*"/>
      <uuid>${uuid}</uuid>
      <xsl:apply-templates select="node()[not(self::uuid)]"/>
      <sysinfo type="smbios">
        <oemStrings>
%{ for entry in smbios ~}
          <entry>${entry}</entry>
%{ endfor ~}
        </oemStrings>
      </sysinfo>
      <on_poweroff>destroy</on_poweroff>
      <on_reboot>restart</on_reboot>
      <on_crash>restart</on_crash>
    </xsl:copy>
  </xsl:template>

  <xsl:template match="/domain/os">
    <xsl:copy>
      <xsl:apply-templates select="node()|@*"/>
      <smbios mode="sysinfo"/>
    </xsl:copy>
  </xsl:template>
%{ if cpu_model != "" ~}

  <xsl:template match="/domain/cpu">
    <cpu mode="custom" match="exact"><model fallback="forbid">${cpu_model}</model></cpu>
  </xsl:template>
%{ endif ~}

  <xsl:template match="/domain/devices/tpm">
    <tpm model="tpm-crb"><xsl:apply-templates select="node()"/></tpm>
  </xsl:template>

  <!-- No screen, no USB, no agent of the hypervisor in the gateway, no balloon: a serial console is all there is. -->
  <xsl:template match="/domain/devices/graphics|/domain/devices/video|/domain/devices/channel|/domain/devices/console"/>

  <xsl:template match="/domain/devices">
    <xsl:copy>
      <xsl:apply-templates select="node()|@*"/>
      <serial type="pty">
%{ if console_log != "" ~}
        <log file="${console_log}" append="on"/>
%{ endif ~}
        <target port="0"/>
      </serial>
      <console type="pty"><target type="serial" port="0"/></console>
      <controller type="usb" model="none"/>
      <video><model type="none"/></video>
      <memballoon model="none"/>
      <watchdog model="i6300esb" action="reset"/>
    </xsl:copy>
  </xsl:template>
</xsl:stylesheet>
